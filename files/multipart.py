"""multipart/form-data (RFC 7578) as it arrives, piece by piece, under limits (pure, no I/O).

`feed` gives what is known now: a `Part` begins, its data follows in pieces, and the next Part or the end closes it. Whatever
the size of the body, the reader keeps no more of it than a delimiter or the head of one part.

Taken strictly, because what two readers understand differently is a way in: no preamble, no transfer encodings, no parts in
parts, one `Content-Disposition` of the form `form-data` for each part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

import msgspec

from files.errors import InvalidMultipart
from infery_site.errors import ApiError

MOST_PARTS = 20
MOST_HEAD_BYTES = 8 * 1024
MOST_BOUNDARY_BYTES = 200

_PARAMETER = re.compile(r';[ \t]*([A-Za-z0-9!#$&+^_`|~.*-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))[ \t]*')
_ESCAPED = re.compile(r'\\(["\\])')
_PERCENT = re.compile(r"%(22|0A|0D)", re.IGNORECASE)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]*[0-9A-Za-z'()+_,./:=?-]")
_EXTENDED = re.compile(r"utf-8'[A-Za-z0-9-]*'(.*)", re.IGNORECASE)
_PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})
_KNOWN_FIELDS = frozenset({"content-disposition", "content-type", "content-transfer-encoding", "content-encoding"})


class Part(msgspec.Struct, frozen=True):
    """The head of a part. `filename` is None for a plain field, `media_type` is in lower case and without parameters."""

    name: str
    filename: str | None
    media_type: str


def boundary_of(content_type: str) -> bytes:
    """The boundary of a request's Content-Type. Raises ApiError (415) for another type, InvalidMultipart."""
    media_type, _, rest = content_type.partition(";")
    if media_type.strip().lower() != "multipart/form-data":
        raise ApiError(415, "unsupported_media_type", "The Content-Type must be multipart/form-data.")
    boundary = _parameters(f";{rest}" if rest else "").get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary) or len(boundary) > MOST_BOUNDARY_BYTES:
        raise InvalidMultipart(f"the Content-Type must have a boundary of 1 to {MOST_BOUNDARY_BYTES} characters")
    return boundary.encode("ascii")


class Reader:
    """One body. `is_complete` says whether its closing delimiter was seen; what follows that is dropped."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        # The first delimiter stands at the beginning, where the line break before it would be.
        self._buffer = bytearray(b"\r\n")
        self._is_in_data = False
        self._is_first = True
        self._parts = 0
        self.is_complete = False

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """What the next piece of the body brings. Raises InvalidMultipart."""
        if self.is_complete:
            return  # or what follows the end would be gathered and never read
        self._buffer += data
        while not self.is_complete:
            if self._is_in_data:
                found = self._buffer.find(self._delimiter)
                if found < 0:
                    # The beginning of a delimiter may stand at the end.
                    ready = len(self._buffer) - len(self._delimiter) + 1
                    if ready > 0:
                        yield self._taken(ready)
                    return
                if found:
                    yield self._taken(found)
                self._is_in_data = False
            part = self._next_part()
            if part is None:
                return
            yield part

    def _next_part(self) -> Part | None:
        """The head behind the delimiter with which the buffer begins; None while it is not there, or at the end."""
        begun = bytes(self._buffer[: len(self._delimiter) + 2])
        if not self._delimiter.startswith(begun[: len(self._delimiter)]):
            raise InvalidMultipart("the body must begin with the boundary")
        mark = begun[len(self._delimiter) :]
        if mark == b"--" and not self._is_first:
            self.is_complete = True
            self._buffer.clear()
            return None
        if len(mark) == 2 and mark != b"\r\n":
            raise InvalidMultipart("a boundary must be followed by a line break, or by '--' at the end")
        # From the line break on, so that a part without any header is seen, too.
        end = self._buffer.find(b"\r\n\r\n", len(self._delimiter))
        if (len(self._buffer) if end < 0 else end) - len(begun) > MOST_HEAD_BYTES:
            raise InvalidMultipart(f"the headers of a part may have at most {MOST_HEAD_BYTES} bytes")
        if end < 0:
            return None
        head = self._taken(end + 4)[len(begun) : -4]
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidMultipart(f"there may be at most {MOST_PARTS} parts")
        self._is_in_data, self._is_first = True, False
        return _part(head)

    def _taken(self, count: int) -> bytes:
        taken = bytes(memoryview(self._buffer)[:count])
        del self._buffer[:count]
        return taken


def _part(head: bytes) -> Part:
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise InvalidMultipart("the headers of a part must be UTF-8") from None
    fields: dict[str, str] = {}
    for line in lines:
        name, separator, value = line.partition(":")
        name = name.lower()
        if not separator or name in fields or name.strip() != name or "\n" in line or "\r" in line:
            raise InvalidMultipart("the headers of a part must be well formed, and none may be repeated")
        if name in _KNOWN_FIELDS:
            fields[name] = value.strip(" \t")
    if fields.get("content-transfer-encoding", "").lower() not in _PLAIN_ENCODINGS or fields.get("content-encoding"):
        raise InvalidMultipart("no part may be encoded: send its bytes as they are")
    media_type = fields.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith("multipart/"):
        raise InvalidMultipart("no part may consist of parts")
    kind, _, rest = fields.get("content-disposition", "").partition(";")
    parameters = _parameters(f";{rest}" if rest else "")
    if kind.strip().lower() != "form-data" or not parameters.get("name"):
        raise InvalidMultipart("every part must have a Content-Disposition of form-data with a name")
    return Part(parameters["name"], _filename(parameters), media_type)


def _parameters(text: str) -> dict[str, str]:
    """The parameters of a header, by their names in lower case."""
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        if match is None or match[1].lower() in values:
            raise InvalidMultipart("the parameters of a header must be well formed, and none may be repeated")
        quoted, plain = match[2], match[3]
        values[match[1].lower()] = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        position = match.end()
    return values


def _filename(parameters: dict[str, str]) -> str | None:
    extended = parameters.get("filename*")
    if extended is None:
        # What browsers and HTTP libraries write for what may not stand in quotes.
        name = parameters.get("filename")
        return None if name is None else _PERCENT.sub(lambda match: chr(int(match[1], 16)), name)
    match = _EXTENDED.fullmatch(extended)
    try:
        return unquote_to_bytes(match[1]).decode("utf-8") if match else _refused_name()
    except UnicodeDecodeError:
        return _refused_name()


def _refused_name() -> str:
    raise InvalidMultipart("filename* must be UTF-8, as in filename*=utf-8''name")
