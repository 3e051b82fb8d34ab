"""Routes of chat's management API, below `/v1/`."""

from __future__ import annotations

from django.urls import path

from chat.api.models import ModelDetail, ModelList

urlpatterns = [
    path("models", ModelList.as_view(), name="models"),
    path("models/<path:slug>", ModelDetail.as_view(), name="model"),
]
