"""The app of the pipeline: catalogue, providers, the chat endpoint."""

from django.apps import AppConfig
from django.conf import settings

from infery_site import env, failpoints


class ChatConfig(AppConfig):
    name = "chat"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Chat"

    def ready(self) -> None:
        failpoints.arm(env.read(failpoints.VARIABLE), is_allowed=settings.ARE_FAILPOINTS_ALLOWED)
        from chat import checks  # noqa: F401, PLC0415 - registers the system checks
