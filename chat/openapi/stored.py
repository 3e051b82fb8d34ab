"""Files that are stored, as OpenAI's clients know them."""

from __future__ import annotations

from typing import Final

from chat.openapi.completions import IDEMPOTENCY_KEY
from chat.openapi.forms import (
    BINARY,
    FLAG,
    JSON,
    TEXT,
    WHOLE,
    Operation,
    Schema,
    described,
    just,
    of,
    one_of,
    or_null,
    page_of,
    shape,
)
from chat.openapi.records import PAGING
from files.api.reading import ORDERS
from files.models import StoredFile

TAG: Final = "Files"

_FORM: Final[Schema] = {
    "type": "object",
    "properties": {
        "file": BINARY,
        "purpose": one_of(*StoredFile.Purpose.values),
        "expires_after[anchor]": just("created_at"),
        "expires_after[seconds]": WHOLE,
    },
    "required": ["file", "purpose"],
}


def schemas() -> dict[str, Schema]:
    unix = described(WHOLE, "Seconds since 1970.")
    return {
        "File": shape(
            {
                "id": TEXT,
                "object": just("file"),
                "bytes": WHOLE,
                "created_at": unix,
                "filename": TEXT,
                "purpose": one_of(*StoredFile.Purpose.values),
                "status": just("processed"),
                "expires_at": or_null(unix),
            }
        ),
        "FileDeleted": shape({"id": TEXT, "object": just("file"), "deleted": FLAG}),
    }


def operations() -> list[Operation]:
    return [
        Operation(
            id="uploadFile",
            method="POST",
            path="/v1/files",
            tag=TAG,
            summary="Stores a file, for requests to name.",
            body=_FORM,
            body_type="multipart/form-data",
            answers={JSON: of("File")},
            headers={"Idempotency-Key": IDEMPOTENCY_KEY},
        ),
        Operation(
            id="listFiles",
            method="GET",
            path="/v1/files",
            tag=TAG,
            summary="The files of the workspace.",
            answers={JSON: page_of(of("File"))},
            query={**PAGING, "order": one_of(*ORDERS), "purpose": one_of(*StoredFile.Purpose.values)},
        ),
        Operation(
            id="getFile", method="GET", path="/v1/files/{file_id}", tag=TAG, summary="One file.", answers={JSON: of("File")}
        ),
        Operation(
            id="deleteFile",
            method="DELETE",
            path="/v1/files/{file_id}",
            tag=TAG,
            summary="Deletes a file.",
            answers={JSON: of("FileDeleted")},
        ),
        Operation(
            id="downloadFile",
            method="GET",
            path="/v1/files/{file_id}/content",
            tag=TAG,
            summary="The bytes of a file.",
            answers={"*/*": BINARY},
        ),
    ]
