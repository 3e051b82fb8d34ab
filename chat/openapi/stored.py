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
from files.uploads import LEAST_EXPIRY_S, MOST_EXPIRY_S

TAG: Final = "Files"
READ: Final = ("files:read",)
WRITE: Final = ("files:write",)

_FORM: Final[Schema] = {
    "type": "object",
    "properties": {
        "file": BINARY,
        "purpose": one_of(*StoredFile.Purpose.values),
        "expires_after[anchor]": just("created_at"),
        "expires_after[seconds]": {**WHOLE, "minimum": LEAST_EXPIRY_S, "maximum": MOST_EXPIRY_S},
    },
    "required": ["file", "purpose"],
    "dependentRequired": {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    },
    "additionalProperties": False,
}


def schemas() -> dict[str, Schema]:
    unix = described(WHOLE, "Seconds since 1970.")
    return {
        "StoredFile": shape(
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
            answers={JSON: of("StoredFile")},
            headers={"Idempotency-Key": IDEMPOTENCY_KEY},
            scopes=WRITE,
        ),
        Operation(
            id="listFiles",
            method="GET",
            path="/v1/files",
            tag=TAG,
            summary="The files of the workspace.",
            answers={JSON: page_of(of("StoredFile"))},
            scopes=READ,
            query={**PAGING, "order": one_of(*ORDERS), "purpose": one_of(*StoredFile.Purpose.values)},
        ),
        Operation(
            id="getFile",
            method="GET",
            path="/v1/files/{file_id}",
            tag=TAG,
            summary="One file.",
            answers={JSON: of("StoredFile")},
            scopes=READ,
        ),
        Operation(
            id="deleteFile",
            method="DELETE",
            path="/v1/files/{file_id}",
            tag=TAG,
            summary="Deletes a file.",
            answers={JSON: of("FileDeleted")},
            scopes=WRITE,
        ),
        Operation(
            id="downloadFile",
            method="GET",
            path="/v1/files/{file_id}/content",
            tag=TAG,
            summary="The bytes of a file. Their type is the file's own.",
            answers={"application/octet-stream": BINARY},
            scopes=READ,
        ),
    ]
