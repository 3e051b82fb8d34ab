"""Routes of the Files API, below `/v1/`."""

from __future__ import annotations

from django.urls import path

from files.api.reading import FileContent, FileDetail, Files

urlpatterns = [
    path("files", Files.as_view(), name="files"),
    path("files/<str:file_id>", FileDetail.as_view(), name="file"),
    path("files/<str:file_id>/content", FileContent.as_view(), name="file-content"),
]
