"""Routes of billing's reads, below `/v1/`."""

from __future__ import annotations

from django.urls import path

from billing.api.credits import CallingKey, Credits
from billing.api.receipts import GenerationDetail, ReceiptKeys
from billing.api.usage import Requests, Usage

urlpatterns = [
    path("generations/<str:reference>", GenerationDetail.as_view(), name="generation"),
    path("receipt-keys", ReceiptKeys.as_view(), name="receipt-keys"),
    path("usage", Usage.as_view(), name="usage"),
    path("usage/requests", Requests.as_view(), name="usage-requests"),
    path("credits", Credits.as_view(), name="credits"),
    path("key", CallingKey.as_view(), name="calling-key"),
]
