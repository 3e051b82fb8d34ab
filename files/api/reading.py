"""`/v1/files` apart from uploads: files are listed, looked up, downloaded and deleted.

Unknown and foreign ids are answered by equal bytes. Whoever was let in is told with every answer how much room there is.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpResponse, StreamingHttpResponse
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.authentication import principal_of
from billing.api.reading import answer, choice_of, limit_of
from billing.apikeys import Principal
from billing.errors import InvalidValue, LedgerUnavailable
from files import keeping
from files.access import files_of, get_file, get_readable, place_of
from files.api.objects import file_object, room_headers
from files.errors import FileNotFound, FileNotReady, NoSuchFile
from files.models import StoredFile
from files.reading import content_response
from files.room import room_for
from infery_site.drf import ApiView

ORDERS = {"asc": "pk", "desc": "-pk"}


class FilesView(ApiView):
    _principal: Principal | None = None
    scopes = {"GET": "files:read", "HEAD": "files:read", "DELETE": "files:write"}

    @property
    def required_scope(self) -> str | None:
        return self.scopes.get(self.request.method or "")

    def handle_exception(self, exc: Exception) -> Response:
        return super().handle_exception(LedgerUnavailable() if isinstance(exc, OperationalError | InterfaceError) else exc)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method != "OPTIONS":
            self._principal = principal_of(request)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        if self._principal is not None:
            # An answer that there is must not fail by what is said along with it.
            with suppress(OperationalError, InterfaceError):
                for name, value in room_headers(room_for(self._principal.api_key_id)):
                    final[name] = value
        return final


class Files(FilesView):
    """Uploads to this URL are taken before Django reads their bodies: `files.api.uploading`."""

    def get(self, request: Request) -> HttpResponse:
        workspace_id = principal_of(request).workspace_id
        limit = limit_of(request)
        order = ORDERS[choice_of(request, "order", tuple(ORDERS)) or "desc"]
        rows = files_of(workspace_id)
        if purpose := choice_of(request, "purpose", tuple(StoredFile.Purpose.values)):
            rows = rows.filter(purpose=purpose)
        after = request.query_params.get("after")
        if after is not None:
            place = place_of(workspace_id, after)
            if place is None:
                raise InvalidValue("after must be the id of a file of this workspace.", "after")
            rows = rows.filter(pk__gt=place) if order == "pk" else rows.filter(pk__lt=place)
        chosen = list(rows.order_by(order)[: limit + 1])
        data = [file_object(file) for file in chosen[:limit]]
        return answer(
            {
                "object": "list",
                "data": data,
                "first_id": data[0]["id"] if data else None,
                "last_id": data[-1]["id"] if data else None,
                "has_more": len(chosen) > limit,
            }
        )

    def _allowed_methods(self) -> list[str]:
        return [*super()._allowed_methods(), "POST"]  # type: ignore[misc] # Django's own, which the stubs leave out


class FileDetail(FilesView):
    def get(self, request: Request, file_id: str) -> HttpResponse:
        return answer(file_object(_found(request, file_id)))

    def delete(self, request: Request, file_id: str) -> HttpResponse:
        file = _found(request, file_id)
        if not keeping.delete(file):
            raise NoSuchFile
        return answer({"id": file.public_id, "object": "file", "deleted": True})


class _AsItIs(BaseContentNegotiation):
    """A file has the type that it has, whatever the client would like it to be."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class FileContent(FilesView):
    content_negotiation_class = _AsItIs

    def get(self, request: Request, file_id: str) -> StreamingHttpResponse:
        file = get_file(principal_of(request).workspace_id, file_id)
        if file is None:
            raise NoSuchFile
        if file.state != StoredFile.State.READY:
            raise FileNotReady().at("file_id")
        try:
            return content_response(file)
        except FileNotFound:
            raise NoSuchFile from None


def _found(request: Request, file_id: str) -> StoredFile:
    file = get_readable(principal_of(request).workspace_id, file_id)
    if file is None:
        raise NoSuchFile
    return file
