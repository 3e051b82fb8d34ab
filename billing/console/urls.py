"""Pages of the console that are about money, keys and people. `console/` leads to the workspace that was looked at last."""

from __future__ import annotations

from django.urls import path

from billing.console import alerts, announcements, audit, credits, entrance, keys, members, overview, settings, usage, webhooks

urlpatterns = [
    path("", entrance.index, name="console"),
    path("new", entrance.new, name="console-new"),
    path("invitations/<str:invitation_id>", entrance.invitation, name="console-invitation"),
    path("<str:workspace_id>/overview", overview.overview, name="console-overview"),
    path("<str:workspace_id>/announcements/<str:announcement_id>/dismiss", announcements.dismiss, name="console-dismiss"),
    path("<str:workspace_id>/keys", keys.keys, name="console-keys"),
    path("<str:workspace_id>/keys/<str:key_id>", keys.detail, name="console-key"),
    path("<str:workspace_id>/keys/<str:key_id>/roll", keys.roll, name="console-key-roll"),
    path("<str:workspace_id>/keys/<str:key_id>/revoke", keys.revoke, name="console-key-revoke"),
    path("<str:workspace_id>/credits", credits.credits, name="console-credits"),
    path("<str:workspace_id>/credits/export", credits.export, name="console-credits-export"),
    path("<str:workspace_id>/credits/redeem", credits.redeem, name="console-redeem"),
    path("<str:workspace_id>/usage", usage.usage_page, name="console-usage"),
    path("<str:workspace_id>/usage/export", usage.export, name="console-usage-export"),
    path("<str:workspace_id>/members", members.people, name="console-members"),
    path("<str:workspace_id>/members/<str:member_id>/role", members.change, name="console-member-role"),
    path("<str:workspace_id>/members/<str:member_id>/remove", members.remove, name="console-member-remove"),
    path("<str:workspace_id>/members/<str:member_id>/owner", members.hand_over, name="console-member-owner"),
    path("<str:workspace_id>/invitations/<str:invitation_id>/withdraw", members.withdraw, name="console-withdraw"),
    path("<str:workspace_id>/settings", settings.settings, name="console-settings"),
    path("<str:workspace_id>/settings/retention", settings.retention, name="console-retention"),
    path("<str:workspace_id>/settings/stop", settings.stop, name="console-stop"),
    path("<str:workspace_id>/settings/resume", settings.resume, name="console-resume"),
    path("<str:workspace_id>/settings/close", settings.close, name="console-close"),
    path("<str:workspace_id>/audit", audit.audit, name="console-audit"),
    path("<str:workspace_id>/audit/export", audit.export, name="console-audit-export"),
    path("<str:workspace_id>/alerts", alerts.alerts, name="console-alerts"),
    path("<str:workspace_id>/webhooks", webhooks.webhooks, name="console-webhooks"),
    path("<str:workspace_id>/webhooks/<str:hook_id>", webhooks.detail, name="console-webhook"),
    path("<str:workspace_id>/webhooks/<str:hook_id>/test", webhooks.test, name="console-webhook-test"),
    path("<str:workspace_id>/webhooks/<str:hook_id>/roll", webhooks.roll, name="console-webhook-roll"),
    path("<str:workspace_id>/webhooks/<str:hook_id>/enable", webhooks.enable, name="console-webhook-enable"),
    path("<str:workspace_id>/webhooks/<str:hook_id>/remove", webhooks.remove, name="console-webhook-remove"),
    path(
        "<str:workspace_id>/webhooks/<str:hook_id>/messages/<str:delivery_id>/again",
        webhooks.again,
        name="console-webhook-again",
    ),
]
