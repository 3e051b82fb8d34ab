"""`/api/workspaces/{id}/keys`: keys are listed, made, changed, rolled and revoked.

The text of a key stands in the one answer that made it. A caller who may act on his own keys only does not see the others.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from billing import apikeys, quotas
from billing.api.bodies import KeyBody, RollBody
from billing.api.managing import CreatingView, ManagementView, created, found, page
from billing.api.objects import key_object
from billing.api.reading import answer
from billing.errors import NotPermitted
from billing.models import ApiKey
from billing.permissions import Action, Grant


class _KeyView(ManagementView):
    def keys(self, action: Action) -> QuerySet[ApiKey]:
        """The keys on which the caller may do `action`."""
        keys = ApiKey.objects.filter(workspace=self.caller.workspace).select_related(*quotas.KEY_LAYERS)
        if self.caller.permit(action) is Grant.OWN:
            keys = keys.filter(owner=self.caller.member)
        return keys

    def read(self, request: Request, *, is_partial: bool = False) -> dict[str, Any]:
        """The values of a KeyBody, with the preset as its row; to give one, or take one away, is a permission of its own."""
        values = self.fields(request, KeyBody, is_partial=is_partial)
        if "preset" in values:
            self.caller.permit(Action.ASSIGN_PRESETS)
            if values["preset"] is not None:
                values["preset"] = self.preset(values["preset"])
        return values

    def shown(self, key: ApiKey) -> dict[str, Any]:
        return key_object(ApiKey.objects.select_related(*quotas.KEY_LAYERS).get(pk=key.pk))


class Keys(_KeyView, CreatingView):
    actions = {"GET": Action.READ_KEYS, "POST": Action.CREATE_KEYS}

    def get(self, request: Request, workspace_id: str) -> HttpResponse:
        return page(request, self.keys(Action.READ_KEYS), lambda keys: [key_object(key) for key in keys])

    def create(self, request: Request, **kwargs: str) -> HttpResponse:
        values = self.read(request)
        name = values.pop("name")
        terms = apikeys.KeyTerms(**values)
        key, key_text = apikeys.mint(
            self.caller.workspace, name, actor=self.caller.actor, terms=terms, creator=self.caller.creator()
        )
        return created({**self.shown(key), "key": key_text})


class KeyDetail(_KeyView):
    actions = {"GET": Action.READ_KEYS, "PATCH": Action.UPDATE_KEYS, "DELETE": Action.REVOKE_KEYS}

    def get(self, request: Request, workspace_id: str, key_id: str) -> HttpResponse:
        return answer(key_object(found(self.keys(Action.READ_KEYS), key_id)))

    def patch(self, request: Request, workspace_id: str, key_id: str) -> HttpResponse:
        key = found(self.keys(Action.UPDATE_KEYS), key_id)
        if self.caller.principal is not None and self.caller.principal.api_key_id == key.pk:
            # Whoever found the key would free it of its addresses and its end.
            raise NotPermitted
        changes = apikeys.KeyChanges(**self.read(request, is_partial=True))
        apikeys.update_key(key, changes, actor=self.caller.actor, creator=self.caller.creator())
        return answer(self.shown(key))

    def delete(self, request: Request, workspace_id: str, key_id: str) -> HttpResponse:
        key = found(self.keys(Action.REVOKE_KEYS), key_id)
        apikeys.revoke(key, actor=self.caller.actor)
        return answer(self.shown(key))


class KeyRoll(_KeyView, CreatingView):
    actions = {"POST": Action.ROLL_KEYS}

    def create(self, request: Request, **kwargs: str) -> HttpResponse:
        # Nobody has the text of a playground's key, and what took its place would not be of the playground.
        key = found(self.keys(Action.ROLL_KEYS).filter(is_playground=False), kwargs["key_id"])
        overlap = apikeys.Overlap(self.fields(request, RollBody)["overlap"])
        rolled, key_text = apikeys.roll(key, overlap=overlap, actor=self.caller.actor, creator=self.caller.creator())
        return created({**self.shown(rolled), "key": key_text, "rolled_from": self.shown(key)})
