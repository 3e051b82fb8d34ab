"""Audio and documents: what may stand in such a part, and the one shape in which it goes out."""

from __future__ import annotations

import base64
from typing import Final, Literal

import msgspec

from chat.content.inline import decode_base64, decode_data_uri
from chat.errors import InvalidRequest
from chat.schema.request import AudioPart, FilePart, FileSource, ImagePart, ImageUrl, InputAudio
from files.audio import Sound, measure, to_wav
from files.errors import InvalidPdf
from files.sandbox import Sandbox
from infery_site.errors import ContentError
from infery_site.sniffing import sniff

CONVERTED_FORMATS: Final = frozenset({"pcm16", "webm"})
PDF: Final = "application/pdf"
WEBM: Final = "audio/webm"

_STORED_FORMATS: Final[dict[str, Literal["wav", "mp3", "webm"]]] = {
    "audio/wav": "wav",
    "audio/mpeg": "mp3",
    WEBM: "webm",
}


def heard(audio: InputAudio, param: str) -> tuple[bytes, Sound]:
    """The bytes of inline audio, and what they are. Raises InvalidRequest `invalid_audio`."""
    data = decode_base64(audio.data, param, code="invalid_audio")
    try:
        return data, measure(data, audio.format)
    except ContentError as error:
        raise error.at(param) from None


async def as_wav(part: AudioPart, data: bytes, sound: Sound, sandbox: Sandbox) -> AudioPart:
    """The part as WAV. Raises ContentError."""
    wav = await to_wav(data, sound, sandbox=sandbox)
    return msgspec.structs.replace(part, input_audio=InputAudio(base64.b64encode(wav).decode(), "wav"))


def reference(part: FilePart, param: str) -> tuple[str, str] | None:
    """The id of a stored file and the field it stands in; None for an inline one.

    Raises InvalidRequest `conflicting_parameters` unless the file is given in one way.
    """
    source = part.file or FileSource()
    ways = [way for way in (source.file_data, source.data, source.file_id, part.file_id) if way is not None]
    if len(ways) != 1:
        message = f"'{param}' must hold one file: 'file_data' or 'file_id'."
        raise InvalidRequest("conflicting_parameters", message, param)
    if part.file_id is not None:
        return part.file_id, f"{param}.file_id"
    return None if source.file_id is None else (source.file_id, f"{param}.file.file_id")


def stored(data: bytes, filename: str) -> FilePart | ImagePart | AudioPart:
    """A part with a stored file in it, inline: an image and audio like one that was sent as `image_url` or `input_audio`."""
    kind, encoded = sniff(data) or "", base64.b64encode(data).decode()
    if kind in _STORED_FORMATS:
        return AudioPart(InputAudio(encoded, _STORED_FORMATS[kind]))
    if kind.startswith("image/"):
        return ImagePart(ImageUrl(data_uri(kind, encoded)))
    return FilePart(file=FileSource(file_data=encoded, filename=filename))


class Pdf(msgspec.Struct, frozen=True):
    """A PDF by how it begins, and the field it stands in."""

    filename: str
    data: bytes
    param: str


def pdf(part: FilePart, param: str, stored_in: str | None = None) -> tuple[Pdf, FilePart]:
    """An inline file, judged by how it begins, and the part in OpenAI's shape: `file_data` as a data: URI.

    `stored_in` is the field that named a stored one, which is then the one at fault.

    Raises ApiError: `unsupported_file_type` for anything but a PDF, `mime_mismatch`, `invalid_data_uri`, `empty_file`, and
    `invalid_pdf` for nothing that is said to be one.
    """
    source = part.file or FileSource()
    given = source.file_data if source.file_data is not None else source.data or ""
    where = stored_in or f"{param}.file.{'data' if source.file_data is None else 'file_data'}"
    declared, data = decode_data_uri(given, where) if given[:5].lower() == "data:" else ("", decode_base64(given, where))
    if not data:
        if PDF in {declared, (source.mime_type or "").lower()}:
            raise InvalidPdf().at(where)
        raise InvalidRequest("empty_file", f"The file in '{where}' is empty.", where)
    actual = sniff(data)
    for said in (declared, (source.mime_type or "").lower()):
        if said not in {"", "application/octet-stream", actual}:
            raise InvalidRequest("mime_mismatch", f"The file in '{where}' is not of the type that it is declared to be.", where)
    if actual != PDF:
        wanted = "hold a PDF. Send images as 'image_url'." if stored_in is None else "name a PDF, an image or audio."
        raise InvalidRequest("unsupported_file_type", f"'{where}' must {wanted}", where)
    uri = given if declared == PDF else data_uri(PDF, given.rpartition(",")[2])
    name = source.filename or "document.pdf"
    shaped = FilePart(file=FileSource(file_data=uri, filename=name), cache_control=part.cache_control)
    return Pdf(name, data, where), shaped


def data_uri(media_type: str, encoded: str) -> str:
    return f"data:{media_type};base64,{encoded}"
