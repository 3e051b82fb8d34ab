"""PDF files made by hand, object by object: good ones, odd ones, and bombs of a few kilobytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

LETTER = (0, 0, 612, 792)
FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


class Packed(bytes):
    """What a stream is to be packed into: by itself it would take long."""


def stream(data: bytes, entries: bytes = b"", *, packed: bool = False) -> bytes:
    if packed:
        data, entries = data if isinstance(data, Packed) else zlib.compress(data, 9), entries + b" /Filter /FlateDecode"
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), entries, data)


def written(objects: Sequence[bytes], *, root: int = 1, trailer: bytes = b"", head: bytes = b"%PDF-1.7\n") -> bytes:
    """A file of these objects, numbered from 1."""
    parts, places = [head], []
    size = len(head)
    for number, body in enumerate(objects, 1):
        part = b"%d 0 obj\n%s\nendobj\n" % (number, body)
        places.append(size)
        parts.append(part)
        size += len(part)
    lines = b"".join(b"%010d 00000 n \n" % place for place in places)
    parts.append(b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, lines))
    parts.append(b"trailer\n<< /Size %d /Root %d 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, root, trailer, size))
    return b"".join(parts)


def text(said: str, size: int = 24) -> bytes:
    escaped = said.encode("latin-1").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
    return b"BT /F1 %d Tf 72 700 Td (%s) Tj ET" % (size, escaped)


def page(contents: int, box: Sequence[float] | None = LETTER, entries: bytes = b"", resources: bytes = b"") -> bytes:
    media = b"" if box is None else b"/MediaBox [%s]" % " ".join(map(str, box)).encode()
    return b"<< /Type /Page /Parent 2 0 R %s /Contents %d 0 R %s /Resources << /Font << /F1 3 0 R >> %s >> >>" % (
        *(media, contents, entries, resources),
    )


def of_pages(said: Iterable[str], **options: object) -> bytes:
    """A page for each text."""
    return of_contents([text(one) for one in said], **options)  # type: ignore[arg-type]


def of_contents(
    contents: Sequence[bytes],
    *,
    box: Sequence[float] | None = LETTER,
    entries: bytes = b"",
    resources: bytes = b"",
    more: Sequence[bytes] = (),
    catalog: bytes = b"",
    count: int | None = None,
    packed: bool = True,
) -> bytes:
    """A page for each stream of operators. Further objects are numbered from 4."""
    first = 4 + len(more)
    kids = b" ".join(b"%d 0 R" % (first + 2 * number) for number in range(len(contents)))
    pages = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(contents) if count is None else count)
    objects = [b"<< /Type /Catalog /Pages 2 0 R %s >>" % catalog, pages, FONT, *more]
    for number, operators in enumerate(contents):
        objects += [page(first + 2 * number + 1, box, entries, resources), stream(operators, packed=packed)]
    return written(objects)


def with_tree(pages: bytes, *more: bytes) -> bytes:
    """With this for its tree of pages; further objects are numbered from 4."""
    return written([b"<< /Type /Catalog /Pages 2 0 R >>", pages, FONT, *more])


def scan(jpeg: bytes, width: int, height: int) -> bytes:
    """A page that is a picture and nothing else."""
    image = stream(
        jpeg,
        b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB /BitsPerComponent 8 /Filter /DCTDecode"
        % (width, height),
    )
    return of_contents([b"q 612 0 0 792 0 0 cm /Im Do Q"], resources=b"/XObject << /Im 4 0 R >>", more=[image])


def encrypted(user_password: str) -> bytes:
    """By RC4 of 40 bit with the standard handler; an empty user password opens it for everybody."""
    import hashlib  # noqa: PLC0415

    padding = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")

    def rc4(key: bytes, data: bytes) -> bytes:
        state = list(range(256))
        j = 0
        for i in range(256):
            j = (j + state[i] + key[i % len(key)]) & 255
            state[i], state[j] = state[j], state[i]
        out, i, j = bytearray(), 0, 0
        for byte in data:
            i = (i + 1) & 255
            j = (j + state[i]) & 255
            state[i], state[j] = state[j], state[i]
            out.append(byte ^ state[(state[i] + state[j]) & 255])
        return bytes(out)

    def md5(data: bytes) -> bytes:
        return hashlib.md5(data, usedforsecurity=False).digest()

    user, owner = (word.encode().ljust(32, b"\0")[: len(word)] + padding[: 32 - len(word)] for word in (user_password, "owner"))
    file_id, permissions = b"0123456789abcdef", (-4).to_bytes(4, "little", signed=True)
    owner_entry = rc4(md5(owner)[:5], user)
    key = md5(user + owner_entry + permissions + file_id)[:5]
    operators = rc4(md5(key + (5).to_bytes(3, "little") + b"\0\0")[:10], text("Secret"))
    security = b"<< /Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4 >>" % (
        owner_entry.hex().encode(),
        rc4(key, padding).hex().encode(),
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        FONT,
        page(5),
        stream(operators),
    ]
    return written(objects, trailer=b"/Encrypt %s /ID [<%s> <%s>]" % (security, file_id.hex().encode(), file_id.hex().encode()))
