"""Files of the workspace: what is there, how much room is left, one of them with its pages, and deleting. Uploads go around Django: `files.api.uploading`."""

from __future__ import annotations

from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect

from billing.console.shell import render
from billing.console.visits import Visit, sent, visiting
from billing.permissions import Action
from files import keeping
from files.access import files_of, get_readable, place_of
from files.documents import Document, Documents
from files.errors import FileAboveLimit, FileNotFound
from files.models import StoredFile
from files.reading import content_response, read_file
from files.room import room_of
from infery_site.errors import ApiError, ContentError

AT = "console-files"
PAGE_ROWS = 50
PDF = "application/pdf"
TAKEN = ("PDF", "PNG", "JPEG", "WebP", "GIF", "WAV", "MP3", "text")


@visiting(GET=Action.READ_FILES)
def files(request: HttpRequest, visit: Visit) -> HttpResponse:
    rows = files_of(visit.workspace.pk)
    after = request.GET.get("after", "")
    if after:
        place = place_of(visit.workspace.pk, after)
        if place is None:
            raise Http404
        rows = rows.filter(pk__lt=place)
    found = list(rows.order_by("-pk")[: PAGE_ROWS + 1])
    context = {
        "files": found[:PAGE_ROWS],
        "has_more": len(found) > PAGE_ROWS,
        "is_first": not after,
        "room": room_of(visit.member),
        "taken": TAKEN,
        "purposes": StoredFile.Purpose.choices,
    }
    return render(request, visit, "console/files.html", context, at=AT)


@visiting(GET=Action.READ_FILES)
def detail(request: HttpRequest, visit: Visit, file_id: str) -> HttpResponse:
    """What a file is; of a PDF also its pages as models get them, one at a time."""
    file = _found(visit, file_id)
    number = request.GET.get("page", "1")
    context: dict[str, Any] = {"file": file, "page": 0, "is_pdf": file.media_type == PDF}
    if file.media_type == PDF:
        context |= _previewed(visit, file, number)
    return render(request, visit, "console/file.html", context, at=AT)


@visiting(GET=Action.READ_FILES)
def content(request: HttpRequest, visit: Visit, file_id: str) -> StreamingHttpResponse:
    try:
        return content_response(_found(visit, file_id))
    except FileNotFound:
        raise Http404 from None


@visiting(GET=Action.READ_FILES)
def page_image(request: HttpRequest, visit: Visit, file_id: str, number: int) -> HttpResponse:
    """A page of a PDF, drawn in the sandbox or kept from when it was; free, whoever is the first to ask for it."""
    file = _found(visit, file_id)
    if file.media_type != PDF or Documents.serving is None:
        raise Http404
    try:
        images = async_to_sync(_drawn)(Documents.serving, visit.workspace.pk, file)
    except ContentError:
        raise Http404 from None
    if not 1 <= number <= len(images):
        raise Http404
    response = HttpResponse(images[number - 1], content_type="image/jpeg")
    response["x-content-type-options"] = "nosniff"
    return response


def _found(visit: Visit, file_id: str) -> StoredFile:
    file = get_readable(visit.workspace.pk, file_id)
    if file is None:
        raise Http404
    return file


def _previewed(visit: Visit, file: StoredFile, number: str) -> dict[str, Any]:
    """How many pages there are and which is shown, or why none is. Raises Http404 for a page that there is not."""
    if Documents.serving is None:
        return {"fault": "Pages are drawn by a serving gateway only."}
    try:
        pages = async_to_sync(_counted)(Documents.serving, visit.workspace.pk, file)
    except ContentError as fault:
        return {"fault": fault.at(file.filename).message}
    except ApiError as refusal:
        return {"fault": refusal.message}
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:4]) <= pages):
        raise Http404
    return {"page": int(number), "pages": pages, "earlier": int(number) - 1, "later": int(number) + 1}


async def _counted(documents: Documents, workspace_id: int, file: StoredFile) -> int:
    async with documents.looks:
        return (await _read(documents, workspace_id, file)).page_count


async def _read(documents: Documents, workspace_id: int, file: StoredFile) -> Document:
    """Raises the ContentError that a request with this file would get, and ApiError."""
    if file.size_bytes > settings.CHAT_BODY_LIMIT_BYTES:
        raise FileAboveLimit
    return await documents.examine(workspace_id, (await read_file(file)).data)


async def _drawn(documents: Documents, workspace_id: int, file: StoredFile) -> tuple[bytes, ...]:
    async with documents.looks:
        return await documents.images(await _read(documents, workspace_id, file))


@visiting(POST=Action.WRITE_FILES)
def delete(request: HttpRequest, visit: Visit, file_id: str) -> HttpResponse:
    file = _found(visit, file_id)
    sent(request)
    keeping.delete(file)
    messages.success(request, f"{file.filename} is deleted, and its bytes are destroyed.")
    return redirect(AT, visit.workspace.public_id)
