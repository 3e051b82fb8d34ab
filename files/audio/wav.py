"""RIFF WAVE files, and raw samples, which are WAV without its header (pure)."""

from __future__ import annotations

import struct

from files.audio.sound import Sound

PCM16_RATE = 24_000

_PCM, _FLOAT, _ALAW, _MULAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
_SAMPLE_BITS = {_PCM: {8, 16, 24, 32}, _FLOAT: {32, 64}, _ALAW: {8}, _MULAW: {8}}
_MAX_CHUNKS = 256
_SIZE_UNKNOWN = frozenset({0, 0xFFFF_FFFF})
"""What is written where the length was not known yet; the data then goes on to the end."""


def measure(data: bytes) -> Sound:
    """Raises ValueError, IndexError, struct.error for what is no WAV, or claims more than it holds."""
    riff, riff_bytes, wave = struct.unpack_from("<4sI4s", data)
    if (riff, wave) != (b"RIFF", b"WAVE") or (riff_bytes not in _SIZE_UNKNOWN and riff_bytes + 8 > len(data)):
        raise ValueError
    offset = 12
    form: tuple[int, int, int] | None = None
    for _ in range(_MAX_CHUNKS):
        name, size_bytes = struct.unpack_from("<4sI", data, offset)
        offset += 8
        if name == b"data":
            if form is None:
                raise ValueError
            held_bytes = len(data) - offset if size_bytes in _SIZE_UNKNOWN else size_bytes
            if held_bytes > len(data) - offset:
                raise ValueError
            sample_rate, channels, block_bytes = form
            return Sound("wav", -(-held_bytes * 1000 // (sample_rate * block_bytes)), sample_rate, channels)
        if name == b"fmt ":
            form = _form(data, offset, size_bytes)
        offset += size_bytes + size_bytes % 2
    raise ValueError


def _form(data: bytes, offset: int, size_bytes: int) -> tuple[int, int, int]:
    """Rate, channels, and the bytes of one sample of all channels."""
    code, channels, sample_rate, bytes_per_s, block_bytes, bits = struct.unpack_from("<HHIIHH", data, offset)
    if code == _EXTENSIBLE and size_bytes >= 40:
        (code,) = struct.unpack_from("<H", data, offset + 24)
    if bits not in _SAMPLE_BITS.get(code, ()) or block_bytes != channels * bits // 8 or not block_bytes or not sample_rate:
        raise ValueError
    if bytes_per_s != sample_rate * block_bytes:
        raise ValueError
    return sample_rate, channels, block_bytes


def measure_samples(data: bytes) -> Sound:
    """Of OpenAI's `pcm16`: 24 kHz, mono, 16 bit, little endian. Raises ValueError for half a sample."""
    if len(data) % 2:
        raise ValueError
    return Sound("pcm16", -(-len(data) * 1000 // (PCM16_RATE * 2)), PCM16_RATE, 1)


def header(data_bytes: int, sample_rate: int) -> bytes:
    """What stands before so many bytes of mono samples of 16 bit."""
    return struct.pack(
        *("<4sI4s4sIHHIIHH4sI", b"RIFF", data_bytes + 36, b"WAVE", b"fmt ", 16, _PCM, 1),
        *(sample_rate, sample_rate * 2, 2, 16, b"data", data_bytes),
    )
