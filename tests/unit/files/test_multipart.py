"""Forms in pieces: however a body is cut, the same parts come out, and no more of it is kept than needed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from files.errors import InvalidMultipart
from files.multipart import MOST_HEAD_BYTES, MOST_PARTS, Part, Reader, boundary_of
from infery_site.errors import ApiError

BOUNDARY = b"b"
HEAD = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n'
END = b"--b--\r\n"


def read(body, cuts=()):
    """The parts of a body that arrives in these pieces, each with its data."""
    reader, parts = Reader(BOUNDARY), []
    edges = [0, *sorted(cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        for event in reader.feed(body[start:end]):
            if isinstance(event, Part):
                parts.append([event, b""])
            else:
                parts[-1][1] += event
    return [tuple(part) for part in parts], reader.is_complete


def body_of(*values):
    return b"".join(HEAD % b"f%d" % number + value + b"\r\n" for number, value in enumerate(values)) + END


DATA = st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n--", b"b", b"x", b"\0"]), max_size=12).map(b"".join)


@given(st.lists(DATA, min_size=1, max_size=4), st.lists(st.integers(0, 400), max_size=40))
def test_a_body_is_the_same_however_it_is_cut(values, cuts):
    body = body_of(*values)
    if any(b"\r\n--b" in b"\r\n" + value + b"\r\n" for value in values):
        return  # holds the delimiter, which no client would choose then
    expected = [(Part(f"f{number}", None, ""), value) for number, value in enumerate(values)]
    assert read(body, [cut % (len(body) + 1) for cut in cuts]) == (expected, True)
    assert read(body, range(len(body))) == (expected, True)


@given(st.binary(max_size=300), st.integers(0, 300))
def test_a_mutated_body_is_read_or_refused(noise, place):
    """No other exception, and never more parts than begun."""
    body = body_of(b"one", b"two")
    body = body[: place % len(body)] + noise + body[place % len(body) :]
    try:
        parts, _ = read(body, range(0, len(body), 7))
    except InvalidMultipart:
        return
    assert len(parts) <= body.count(b"--b\r\n")


def test_what_follows_the_end_is_ignored():
    assert read(body_of(b"x") + b"--b\r\nanything") == ([(Part("f0", None, ""), b"x")], True)


def test_a_body_without_end_is_not_complete():
    assert read(body_of(b"x")[:-5])[1] is False


def test_data_passes_without_being_gathered():
    reader = Reader(BOUNDARY)
    assert list(reader.feed(HEAD % b"file")) == [Part("file", None, "")]
    for _ in range(50):
        [piece] = reader.feed(b"x" * 100_000)
        assert abs(len(piece) - 100_000) < 10


SIZE_BYTES = 64 * 1024
STATES = {
    "preamble": (b"", True),
    "boundary": (b"--", True),
    "head": (HEAD[:-2] % b"f" + b"x-a: ", True),
    "data": (HEAD % b"f", False),
    "delimiter": (HEAD % b"f" + b"x\r\n--", False),
    "end": (body_of(b"x"), False),
    "half the mark of the end": (body_of(b"x")[: -len(b"-\r\n")], True),
}
"""What was read before, and whether the filling that follows is refused there."""


@pytest.mark.parametrize(("before", "is_refused"), STATES.values(), ids=STATES)
@pytest.mark.parametrize("cut", [1, 7, 4096, SIZE_BYTES], ids=lambda cut: f"by-{cut}")
def test_no_state_gathers_what_it_is_fed(before, is_refused, cut):
    """Between two pieces a reader keeps a delimiter, or the head of one part, wherever it stands and however it is cut."""
    reader = Reader(BOUNDARY)
    filling = b"y" * SIZE_BYTES
    pieces = [before, *(filling[start : start + cut] for start in range(0, SIZE_BYTES, cut))]
    kept_bytes, was_refused = 0, False
    try:
        for piece in pieces:
            list(reader.feed(piece))
            kept_bytes = max(kept_bytes, len(reader._buffer))
    except InvalidMultipart:
        was_refused = True
    assert was_refused is is_refused
    assert kept_bytes <= MOST_HEAD_BYTES + len(b"\r\n--b\r\n")


def test_limits_are_met_at_the_next_byte_only():
    extra = b"x-a: " + b"y" * (MOST_HEAD_BYTES - 55)
    head = b'--b\r\n%s\r\nContent-Disposition: form-data; name="f"'
    size = len(head % extra) - len(b"--b\r\n")
    extra += b"y" * (MOST_HEAD_BYTES - size)
    assert len(read(head % extra + b"\r\n\r\nx\r\n" + END)[0]) == 1
    with pytest.raises(InvalidMultipart, match="headers of a part"):
        read(head % (extra + b"y") + b"\r\n\r\nx\r\n" + END)
    assert len(read(body_of(*[b""] * MOST_PARTS))[0]) == MOST_PARTS
    with pytest.raises(InvalidMultipart, match="parts"):
        read(body_of(*[b""] * (MOST_PARTS + 1)))


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        (b'form-data; name="f"; filename="a.txt"', "a.txt"),
        (b"FORM-DATA;name=f;filename=a.txt", "a.txt"),
        (b'form-data; name="f"; filename="a\\"b.txt"', 'a"b.txt'),
        (b'form-data; name="f"; filename="a%22b%0D%0A.txt"', 'a"b\r\n.txt'),
        (b'form-data; name="f"; filename="a;b=c.txt"', "a;b=c.txt"),
        ('form-data; name="f"; filename="報告.txt"'.encode(), "報告.txt"),
        (b'form-data; name="f"; filename="x"; filename*=UTF-8\'\'%e2%82%ac.txt', "€.txt"),
        (b'form-data; name="f"; filename=""', ""),
        (b'form-data; name="f"', None),
    ],
)
def test_names_of_files(disposition, filename):
    [(part, _)], _ = read(b"--b\r\ncontent-disposition: " + disposition + b"\r\n\r\n\r\n" + END)
    assert part.filename == filename


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; Boundary="a b:c"', b"a b:c"),
        ("multipart/form-data;boundary=" + "x" * 200, b"x" * 200),
    ],
)
def test_boundaries(content_type, boundary):
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=" + "x" * 201, "multipart/form-data; a"]
)
def test_bad_boundaries(content_type):
    with pytest.raises(InvalidMultipart):
        boundary_of(content_type)


def test_other_types():
    with pytest.raises(ApiError) as refused:
        boundary_of("application/json")
    assert refused.value.status == 415
