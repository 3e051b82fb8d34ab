"""Pages of the console that are about requests and models."""

from __future__ import annotations

from django.urls import path

from chat.console import log, models, playground

urlpatterns = [
    path("<str:workspace_id>/log", log.log, name="console-log"),
    path("<str:workspace_id>/log/newer", log.newer, name="console-log-newer"),
    path("<str:workspace_id>/log/<str:generation>", log.detail, name="console-request"),
    path("<str:workspace_id>/models", models.models, name="console-models"),
    path("<str:workspace_id>/playground", playground.playground, name="console-playground"),
]
