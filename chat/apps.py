"""The app of the pipeline: catalogue, providers, the chat endpoint."""

from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "chat"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Chat"

    def ready(self) -> None:
        from chat import checks  # noqa: F401, PLC0415 - registers the system checks
