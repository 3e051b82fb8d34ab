from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat.sse import COMMENT, DONE, DONE_DATA, Event, SseDecoder, SseError, frame


def decode(*reads: bytes, **limits: int) -> list[Event | str]:
    """All events of a body that came in these reads; the last item is `error` if a limit was broken."""
    decoder = SseDecoder(**limits)
    events: list[Event | str] = []
    try:
        for read in reads:
            events += decoder.feed(read)
        events += decoder.flush()
    except SseError:
        events.append("error")
    return events


def data_of(*reads: bytes) -> list[bytes]:
    return [event.data for event in decode(*reads) if isinstance(event, Event)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: one\n\n", [Event("message", b"one")]),
        (b"data:one\n\n", [Event("message", b"one")]),
        (b"data:  one\n\n", [Event("message", b" one")]),
        (b"data: one\r\n\r\n", [Event("message", b"one")]),
        (b"data: one\r\r", [Event("message", b"one")]),
        (b"data: one\r\n\ndata: two\r\r\n", [Event("message", b"one"), Event("message", b"two")]),
        (b"data: one\ndata: two\n\n", [Event("message", b"one\ntwo")]),
        (b"data: one\ndata:\ndata: three\n\n", [Event("message", b"one\n\nthree")]),
        (b"data:\n\n", [Event("message", b"")]),
        (b"data\n\n", [Event("message", b"")]),
        (b"data: one\n\n\n\ndata: two\n\n", [Event("message", b"one"), Event("message", b"two")]),
        (b"event: ping\ndata: {}\n\ndata: one\n\n", [Event("ping", b"{}"), Event("message", b"one")]),
        (b"event:ping\ndata: {}\n\n", [Event("ping", b"{}")]),
        (b"event: ping\n\ndata: one\n\n", [Event("message", b"one")]),
        (b"event\ndata: one\n\n", [Event("message", b"one")]),
        (b"event: \xff\ndata: one\n\n", [Event("\N{REPLACEMENT CHARACTER}", b"one")]),
        (b": a comment\n\n:\ndata: one\n\n", [Event("message", b"one")]),
        (b"id: 7\nretry: 100\nnonsense\nother: x\ndata: one\n\n", [Event("message", b"one")]),
        (b"dataset: x\ndatabase\n\n", []),
        (b"\xef\xbb\xbfdata: one\n\n", [Event("message", b"one")]),
        (b"data: one\n\n\xef\xbb\xbfdata: two\n\n", [Event("message", b"one")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: one\n\n", []),
        (b"data: one", [Event("message", b"one")]),
        (b"data: one\n", [Event("message", b"one")]),
        (b"\xef\xbb", []),
        (b"", []),
        (b"\n\r\n\r", []),
        (COMMENT + frame(b"{}") + DONE, [Event("message", b"{}"), Event("message", DONE_DATA)]),
    ],
)
def test_grammar(body: bytes, expected: list[Event]) -> None:
    assert decode(body) == expected
    assert decode(*(body[index : index + 1] for index in range(len(body)))) == expected


@pytest.mark.parametrize("separator", ["\N{LINE SEPARATOR}", "\N{PARAGRAPH SEPARATOR}", "\x85", "\v", "\f", "\x1c"])
def test_only_line_ends_end_a_line(separator: str) -> None:
    text = f"a{separator}b".encode()
    assert data_of(frame(text)) == [text]


def test_events_are_given_out_as_soon_as_they_are_complete() -> None:
    decoder = SseDecoder()
    assert decoder.feed(b"data: one\r") == []
    assert decoder.feed(b"\r") == [Event("message", b"one")]
    assert decoder.feed(b"\ndata: two\n\nda") == [Event("message", b"two")]
    assert decoder.feed(b"ta: three\n\n") == [Event("message", b"three")]
    assert decoder.flush() == []


def test_every_cut_of_a_stream_of_many_byte_characters() -> None:
    pieces = [json.dumps({"text": "é€😀 " * 4}, ensure_ascii=False).encode() for _ in range(3)]
    body = b"\xef\xbb\xbf" + b"".join(b"data: " + piece + b"\r\n\r\n" for piece in pieces)
    for first, second in itertools.combinations(range(len(body) + 1), 2):
        assert data_of(body[:first], body[first:second], body[second:]) == pieces


LINES = st.lists(
    st.sampled_from(
        [
            b"",
            b"data",
            b"data:",
            b"data: x",
            b"data: " + "\N{LINE SEPARATOR}😀".encode(),
            b": c",
            b"event: e",
            b"id: 1",
            b"x" * 20,
        ]
    ),
    max_size=12,
)
ENDS = st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=12, max_size=12)


@given(
    start=st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\xef\xbb\xbf\xef\xbb\xbf"]),
    lines=LINES,
    ends=ENDS,
    last=st.sampled_from([b"", b"data: cut", b"event"]),
    cuts=st.lists(st.integers(0, 200), max_size=8),
)
@example(start=b"", lines=[b"x" * 20], ends=[b"\r\n"] * 12, last=b"", cuts=[21])
def test_reads_do_not_matter(start: bytes, lines: list[bytes], ends: list[bytes], last: bytes, cuts: list[int]) -> None:
    body = start + b"".join(line + end for line, end in zip(lines, ends, strict=False)) + last
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    reads = [body[low:high] for low, high in itertools.pairwise(edges)]
    for limits in ({}, {"max_line_bytes": 16}, {"max_event_bytes": 8}):
        assert decode(*reads, **limits) == decode(body, **limits)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=30), max_size=5))
def test_what_is_framed_is_decoded(texts: list[str]) -> None:
    assert data_of(b"".join(frame(text.encode()) for text in texts)) == [text.encode() for text in texts]


def test_line_limit() -> None:
    assert decode(b"data: 123456\n\n", max_line_bytes=12) == [Event("message", b"123456")]
    assert decode(b"data: 1234567\n\n", max_line_bytes=12) == ["error"]
    assert decode(b": 34567890123", max_line_bytes=12) == ["error"]


def test_event_limit() -> None:
    assert decode(b"data: 12\ndata: 45\n\n", max_event_bytes=6) == [Event("message", b"12\n45")]
    assert decode(b"data: 12\ndata: 456\n\n", max_event_bytes=6) == ["error"]
    assert decode(b"data\n" * 7, max_event_bytes=6) == ["error"]


def test_events_before_a_broken_limit_are_kept() -> None:
    decoder = SseDecoder(max_line_bytes=12)
    assert decoder.feed(b"data: one\n\ndata: much too long\n\ndata: two\n\n") == [Event("message", b"one")]
    with pytest.raises(SseError, match="12 bytes"):
        decoder.feed(b"data: two\n\n")
    with pytest.raises(ValueError, match="12 bytes"):
        decoder.flush()


def test_an_endless_line_is_refused_before_it_is_stored() -> None:
    decoder = SseDecoder()
    piece = b"x" * 65_536
    for _ in range(16):
        assert decoder.feed(piece) == []
    with pytest.raises(SseError):
        decoder.feed(b"x")


WHOLE = st.sampled_from(
    [b"data: one\n\n", b"data: \n\n", b"data: 123456\n\n", b"data: 1234567\n\n", b"data: 1\r\n\n", b"data:one\n\n"]
)
BEFORE = st.sampled_from(
    [b"", b"\xef", b"\xef\xbb\xbf", b"event: x\n", b"data: a\n", b"da", b"data: b\r", b": c\n", b"\n", b"data: d\n\n"]
)


@given(reads=st.lists(st.one_of(WHOLE, BEFORE), max_size=6))
def test_a_whole_event_in_one_read_is_what_its_lines_are(reads: list[bytes]) -> None:
    """Whatever came before it, also at the limits."""
    limits = {"max_line_bytes": 13, "max_event_bytes": 12}
    assert decode(*reads, **limits) == decode(*[byte for read in reads for byte in (read[:1], read[1:])], **limits)
