"""What a file is called, and what it is: the client's words, held against the bytes (pure).

The type is what the bytes begin like, or text where all of them are. What the client declared, and the ending of the name,
may say less than the bytes do, but nothing else. A name is data: it is shown, and never becomes a path.
"""

from __future__ import annotations

import codecs
import mimetypes
import re
import unicodedata

from files.errors import EmptyFile, MimeMismatch, UnsupportedFileType
from infery_site.sniffing import sniff

MOST_NAME_CHARACTERS = 255
TEXT = "text/plain"

_MAGIC_BYTES = 16
_UNNAMED = "file"
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SAYS_NOTHING = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/x-unknown"})
_SAME_TYPE = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "video/webm": "audio/webm",
    "application/x-pdf": "application/pdf",
}
# What is text although its type does not begin like one; `.ts` is TypeScript here, and no video.
_TEXTS = frozenset({"image/svg+xml", "video/mp2t"})
_NO_TEXT = re.compile(
    r"(?:image|audio|video|font)/.*|application/(?:pdf|zip|gzip|x-tar|x-msdownload|x-msdos-program|java-archive|wasm)"
)
# The table of the standard library alone: that of the system differs from machine to machine.
_ENDINGS = mimetypes.MimeTypes()
_ENDINGS.add_type("image/webp", ".webp")
_ENDINGS.add_type("text/plain", ".jsonl")


def base_name(name: str) -> str:
    """The last component, without control and formatting characters, cut to fit with its ending kept."""
    shown = "".join(character for character in name if unicodedata.category(character)[0] != "C")
    last = re.split(r"[/\\]", shown)[-1].strip()
    if last in {"", ".", ".."}:
        return _UNNAMED
    if len(last) <= MOST_NAME_CHARACTERS:
        return last
    stem, dot, ending = last.rpartition(".")
    if not stem or len(ending) > MOST_NAME_CHARACTERS // 8:
        return last[:MOST_NAME_CHARACTERS]
    return stem[: MOST_NAME_CHARACTERS - len(dot + ending)] + dot + ending


class Kind:
    """Finds out what a file is while its bytes pass; keeps the first few of them only."""

    def __init__(self) -> None:
        self._head = b""
        self._is_text = True
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def feed(self, data: bytes) -> None:
        if len(self._head) < _MAGIC_BYTES:
            self._head += data[: _MAGIC_BYTES - len(self._head)]
        if self._is_text:
            self._is_text = _BINARY.search(data) is None and self._decodes(data)

    def _decodes(self, data: bytes, *, is_last: bool = False) -> bool:
        try:
            self._decoder.decode(data, is_last)
        except UnicodeDecodeError:
            return False
        return True

    def judged(self, name: str, declared: str) -> str:
        """The media type, when all bytes have passed. Raises EmptyFile, UnsupportedFileType, MimeMismatch."""
        if not self._head:
            raise EmptyFile
        actual = sniff(self._head)
        if actual is None and self._is_text and self._decodes(b"", is_last=True):
            actual = TEXT
        if actual is None:
            raise UnsupportedFileType
        # The ending of a compressed file names an encoding and no type.
        ending, encoding = _ENDINGS.guess_type(f"file{_ending(name)}", strict=False)
        for said in (declared, "application/gzip" if encoding else ending or ""):
            if not _agrees(said, actual):
                raise MimeMismatch(actual)
        return actual


def _ending(name: str) -> str:
    _, dot, ending = name.rpartition(".")
    return (dot + ending).lower() if ending.isalnum() else ""


def _agrees(said: str, actual: str) -> bool:
    said = _SAME_TYPE.get(said, said)
    if said in _SAYS_NOTHING or said == actual:
        return True
    return actual == TEXT and (said in _TEXTS or _NO_TEXT.fullmatch(said) is None)
