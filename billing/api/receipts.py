"""`GET /v1/generations/{id}`: the signed receipt of a generation. `GET /v1/receipt-keys`: what verifies it, for everybody."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from billing import receipts
from billing.api.authentication import principal_of
from billing.api.reading import ReadView, answer, owner_of
from billing.errors import GenerationNotFound
from billing.permissions import Action
from infery_site.drf import ApiView


class GenerationDetail(ReadView):
    def get(self, request: Request, reference: str) -> HttpResponse:
        principal = principal_of(request)
        owner_id = owner_of(principal, Action.READ_USAGE)
        receipt = receipts.get_receipt(principal.workspace_id, reference, owner_id=owner_id)
        if receipt is None:
            raise GenerationNotFound
        return answer(receipt)


class ReceiptKeys(ApiView):
    authentication_classes = ()

    def get(self, request: Request) -> HttpResponse:
        return answer(receipts.key_set())
