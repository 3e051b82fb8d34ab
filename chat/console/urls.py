"""Pages of the console that are about requests and models."""

from __future__ import annotations

from django.urls import path

from chat.console import chains, docs, log, models, playground

urlpatterns = [
    path("<str:workspace_id>/log", log.log, name="console-log"),
    path("<str:workspace_id>/log/newer", log.newer, name="console-log-newer"),
    path("<str:workspace_id>/log/<str:generation>", log.detail, name="console-request"),
    path("<str:workspace_id>/chains", chains.chains, name="console-chains"),
    path("<str:workspace_id>/chains/of", chains.chain, name="console-chain"),
    path("<str:workspace_id>/chains/reset", chains.reset, name="console-chain-reset"),
    path("<str:workspace_id>/docs", docs.workspace_page, name="console-docs"),
    path("<str:workspace_id>/docs/<str:slug>", docs.workspace_page, name="console-docs-page"),
    path("<str:workspace_id>/models", models.models, name="console-models"),
    path("<str:workspace_id>/playground", playground.playground, name="console-playground"),
]
