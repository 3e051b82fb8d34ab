"""WebM as browsers record it: a Matroska file with Opus or Vorbis, walked element by element (pure).

The tree is read as a line: an element that holds others is stepped into, every other is stepped over. That reads files
whose segments and clusters have no size, as those of a recording in progress, and needs no stack.
"""

from __future__ import annotations

import struct

from files.audio.sound import CHANNELS, RATES, Sound

_EBML, _DOC_TYPE = 0x1A45DFA3, 0x4282
_SEGMENT, _INFO, _TRACKS, _TRACK, _AUDIO = 0x18538067, 0x1549A966, 0x1654AE6B, 0xAE, 0xE1
_CLUSTER, _BLOCK_GROUP = 0x1F43B675, 0xA0
_HOLDS_OTHERS = frozenset({_EBML, _SEGMENT, _INFO, _TRACKS, _TRACK, _AUDIO, _CLUSTER, _BLOCK_GROUP})
_TIMESTAMP_SCALE, _DURATION, _CODEC, _TRACK_TYPE = 0x2AD7B1, 0x4489, 0x86, 0x83
_SAMPLE_RATE, _CHANNELS, _CLUSTER_TIME, _SIMPLE_BLOCK, _BLOCK = 0xB5, 0x9F, 0xE7, 0xA3, 0xA1

_CODECS = {b"A_OPUS", b"A_VORBIS"}
_AUDIO_TRACK = 2
_MAX_ELEMENTS = 300_000
_MAX_VALUE_BYTES = 64
_LAST_BLOCK_MS = 1_000
_SCALES_NS = range(1, 1_000_000_001)


def measure(data: bytes) -> Sound:
    """Raises ValueError, IndexError, struct.error for what is no WebM with one track of sound that is known."""
    reading = _Reading()
    offset = elements = 0
    while offset < len(data):
        elements += 1
        element, size_bytes, offset = _head(data, offset)
        if (elements == 1 and element != _EBML) or elements > _MAX_ELEMENTS:
            raise ValueError
        if element in _HOLDS_OTHERS:
            reading.enter(element)
            continue
        if size_bytes is None or offset + size_bytes > len(data):
            raise ValueError
        reading.take(element, data[offset : offset + min(size_bytes, _MAX_VALUE_BYTES)])
        offset += size_bytes
    return reading.sound()


class _Reading:
    def __init__(self) -> None:
        self._doc_type = b""
        self._scale_ns = 1_000_000
        self._claimed = 0.0
        self._tracks: list[dict[int, bytes]] = []
        self._cluster_time = 0
        self._last_time = -1

    def enter(self, element: int) -> None:
        if element == _TRACK:
            self._tracks.append({})

    def take(self, element: int, value: bytes) -> None:
        if element in {_SIMPLE_BLOCK, _BLOCK}:
            after_track = _number(value, 0, keeps_marker=False)[1]
            self._last_time = max(self._last_time, self._cluster_time + struct.unpack_from(">h", value, after_track)[0])
        elif element == _CLUSTER_TIME:
            self._cluster_time = int.from_bytes(value)
        elif element == _DOC_TYPE:
            self._doc_type = value.rstrip(b"\0")
        elif element == _TIMESTAMP_SCALE:
            self._scale_ns = int.from_bytes(value)
        elif element == _DURATION:
            self._claimed = _real(value)
        elif self._tracks:
            self._tracks[-1][element] = value

    def sound(self) -> Sound:
        if self._doc_type != b"webm" or self._scale_ns not in _SCALES_NS or self._last_time < 0:
            raise ValueError
        (track,) = [one for one in self._tracks if int.from_bytes(one.get(_TRACK_TYPE, b"")) == _AUDIO_TRACK]
        sample_rate = round(_real(track[_SAMPLE_RATE])) if _SAMPLE_RATE in track else RATES.start
        channels = int.from_bytes(track[_CHANNELS]) if _CHANNELS in track else CHANNELS.start
        if track.get(_CODEC, b"").rstrip(b"\0") not in _CODECS:
            raise ValueError
        last_ms = -(-self._last_time * self._scale_ns // 1_000_000) + _LAST_BLOCK_MS
        return Sound("webm", max(last_ms, round(self._claimed * self._scale_ns / 1_000_000)), sample_rate, channels)


def _head(data: bytes, offset: int) -> tuple[int, int | None, int]:
    """An element's id, its size (None: not known) and where its content begins."""
    element, offset = _number(data, offset, keeps_marker=True, most_bytes=4)
    length = 9 - data[offset].bit_length()
    size_bytes, offset = _number(data, offset, keeps_marker=False)
    return element, None if size_bytes == (1 << 7 * length) - 1 else size_bytes, offset


def _number(data: bytes, offset: int, *, keeps_marker: bool, most_bytes: int = 8) -> tuple[int, int]:
    """A number of variable length (RFC 8794, 4), and where it ends."""
    first = data[offset]
    length = 9 - first.bit_length()
    if length > most_bytes or offset + length > len(data):
        raise ValueError
    value = int.from_bytes(data[offset : offset + length])
    return value if keeps_marker else value & (1 << 7 * length) - 1, offset + length


def _real(value: bytes) -> float:
    number: float = struct.unpack({4: ">f", 8: ">d"}[len(value)], value)[0]
    if not 0 <= number < 1e12:
        raise ValueError
    return number
