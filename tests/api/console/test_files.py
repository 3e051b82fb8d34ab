"""The page of a file: what it is, its download, and pages that only a serving gateway draws."""

from __future__ import annotations

import hashlib

import pytest
from asgiref.sync import sync_to_async
from django.core.files.base import ContentFile
from django.test import AsyncClient
from django.utils import timezone

from files import keeping
from files.documents import Documents
from files.room import room_of
from tests.api.admin.pages import XSS

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def files_folder(settings, tmp_path):
    folder = {"BACKEND": "files.storage.FolderStorage", "OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = settings.STORAGES | {"files": folder}


@pytest.fixture
def stored(acme, people):
    def store(name: str, media_type: str, data: bytes):
        new = keeping.NewFile("user_data", name, media_type, len(data), hashlib.sha256(data).hexdigest())
        workspace = acme.workspace
        room = room_of(people["owner"])
        return keeping.keep(workspace.pk, workspace.public_id, new, ContentFile(data), room, now=timezone.now())

    return store


def test_a_file_is_told_and_its_name_is_text(stored, as_role):
    file = stored(f"{XSS}.txt", "text/plain", b"hello")
    page = as_role("viewer")(f"files/{file.public_id}").content.decode()
    for words in (file.public_id, file.sha256, "5 bytes", "text/plain", "Only PDFs are drawn here"):
        assert words in page, words
    assert XSS not in page
    assert "Delete file" not in page
    assert "Delete file" in as_role("developer")(f"files/{file.public_id}").content.decode()


def test_pages_of_a_pdf_are_drawn_by_a_serving_gateway_only(stored, as_role):
    assert Documents.serving is None
    file = stored("a.pdf", "application/pdf", b"%PDF-1.7")
    page = as_role("owner")(f"files/{file.public_id}").content.decode()
    assert "Pages are drawn by a serving gateway only." in page
    assert as_role("owner")(f"files/{file.public_id}/pages/1").status_code == 404


@pytest.mark.django_db(transaction=True)
async def test_a_file_is_saved_and_never_shown(acme, people, stored):
    file = await sync_to_async(stored)("note.txt", "text/plain", b"hello")
    client = AsyncClient()
    await client.aforce_login(people["viewer"].user)
    url = f"/console/{acme.workspace.public_id}/files/{file.public_id}/content"
    response = await client.get(url)
    assert b"".join([part async for part in response.streaming_content]) == b"hello"
    assert response["content-disposition"] == 'attachment; filename="note.txt"'
    assert response["x-content-type-options"] == "nosniff"
    await client.aforce_login(people["billing"].user)
    assert (await client.get(url)).status_code == 403
