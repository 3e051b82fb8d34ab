"""The app of money: workspaces, keys, the ledger, usage."""

from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Billing"

    def ready(self) -> None:
        from billing import checks  # noqa: F401, PLC0415 - registers the system checks
