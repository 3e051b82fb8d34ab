"""Files of the workspace: what is there, how much room is left, and deleting. Uploads go around Django: `files.api.uploading`."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing.console.shell import render
from billing.console.visits import Visit, sent, visiting
from billing.permissions import Action
from files import keeping
from files.access import files_of, get_readable, place_of
from files.models import StoredFile
from files.room import room_of

AT = "console-files"
PAGE_ROWS = 50
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


@visiting(POST=Action.WRITE_FILES)
def delete(request: HttpRequest, visit: Visit, file_id: str) -> HttpResponse:
    file = get_readable(visit.workspace.pk, file_id)
    if file is None:
        raise Http404
    sent(request)
    keeping.delete(file)
    messages.success(request, f"{file.filename} is deleted, and its bytes are destroyed.")
    return redirect(AT, visit.workspace.public_id)
