"""Pages of the console that are about files, and about limits, of which some are theirs."""

from __future__ import annotations

from django.urls import path

from files.console import limits, pages

urlpatterns = [
    path("<str:workspace_id>/files", pages.files, name="console-files"),
    path("<str:workspace_id>/files/<str:file_id>", pages.detail, name="console-file"),
    path("<str:workspace_id>/files/<str:file_id>/content", pages.content, name="console-file-content"),
    path("<str:workspace_id>/files/<str:file_id>/pages/<int:number>", pages.page_image, name="console-file-page"),
    path("<str:workspace_id>/files/<str:file_id>/delete", pages.delete, name="console-file-delete"),
    path("<str:workspace_id>/limits", limits.limits, name="console-limits"),
]
