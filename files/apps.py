"""The app of files: what a workspace sent, and what models can take of it."""

from django.apps import AppConfig


class FilesConfig(AppConfig):
    name = "files"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Files"

    def ready(self) -> None:
        from files import checks  # noqa: F401, PLC0415 - registers the system checks
