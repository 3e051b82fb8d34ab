"""MP3: MPEG audio of layer III, walked frame by frame (pure)."""

from __future__ import annotations

import struct

from files.audio.sound import MAX_DURATION_MS, Sound

_KBITS_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MPEG_1 = 3
_TICKS_PER_MS = 14_112
"""In which a sample of every rate takes a whole number."""

_MAX_DAMAGES = 10_000
_MAX_TAGS = 4
_TAGS_AT_END = (b"TAG", b"APETAGEX", b"LYRICS", b"ID3")


def measure(data: bytes) -> Sound:
    """Raises ValueError, IndexError, struct.error for what is no MP3, or claims to be longer than may be."""
    start = offset = _frame_after(data, _after_tags(data), 4_096)
    _, sample_rate, channels, _ = _frame(data, start)
    ticks = damages = 0
    while offset + 4 <= len(data) and ticks <= MAX_DURATION_MS * _TICKS_PER_MS:
        try:
            size_bytes, rate, _, samples = _frame(data, offset)
        except ValueError:
            if data.startswith(_TAGS_AT_END, offset):
                break
            # Players look for the next frame, and so what lies behind damage counts.
            offset = data.find(b"\xff", offset + 1)
            damages += 1
            if damages > _MAX_DAMAGES:
                raise
            if offset < 0:
                break
            continue
        ticks += samples * (_TICKS_PER_MS * 1000 // rate)
        offset += size_bytes
    if _claimed_ms(data, start) > MAX_DURATION_MS:
        raise ValueError
    return Sound("mp3", -(-ticks // _TICKS_PER_MS), sample_rate, channels)


def _after_tags(data: bytes) -> int:
    offset = 0
    for _ in range(_MAX_TAGS):
        if not data.startswith(b"ID3", offset):
            return offset
        size = data[offset + 6 : offset + 10]
        if len(size) < 4 or max(size) > 0x7F:
            raise ValueError
        has_footer = data[offset + 5] & 0x10
        offset += 10 + (size[0] << 21 | size[1] << 14 | size[2] << 7 | size[3]) + (10 if has_footer else 0)
    raise ValueError


def _frame_after(data: bytes, offset: int, within_bytes: int) -> int:
    """Where the first of two frames begins that follow each other, or one that ends with the file."""
    end = offset + within_bytes
    while (offset := data.find(b"\xff", offset, end)) >= 0:
        try:
            following = offset + _frame(data, offset)[0]
            if following == len(data) or data.startswith(_TAGS_AT_END, following) or _frame(data, following):
                return offset
        except (ValueError, IndexError):
            pass
        offset += 1
    raise ValueError


def _frame(data: bytes, offset: int) -> tuple[int, int, int, int]:
    """Bytes, rate, channels and samples of the frame at `offset`. Raises ValueError if there is none."""
    head = int.from_bytes(data[offset : offset + 4])
    version, layer, kbits_index = head >> 19 & 3, head >> 17 & 3, head >> 12 & 15
    rate_index, padding = head >> 10 & 3, head >> 9 & 1
    if head >> 21 != 0x7FF or version == 1 or layer != 1 or kbits_index in {0, 15} or rate_index == 3:
        raise ValueError
    is_first = version == _MPEG_1
    rate = _RATES[version][rate_index]
    samples = 1_152 if is_first else 576
    kbits = (_KBITS_V1 if is_first else _KBITS_V2)[kbits_index]
    return samples // 8 * kbits * 1000 // rate + padding, rate, 1 if head >> 6 & 3 == 3 else 2, samples


def _claimed_ms(data: bytes, offset: int) -> int:
    """How long the first frame says that the whole is: what encoders write there for players to show. 0 without it."""
    _, rate, channels, samples = _frame(data, offset)
    side_bytes = (17 if channels == 1 else 32) if samples == 1_152 else (9 if channels == 1 else 17)
    frames = 0
    if data[offset + 4 + side_bytes : offset + 8 + side_bytes] in {b"Xing", b"Info"}:
        flags, count = struct.unpack_from(">II", data, offset + 8 + side_bytes)
        frames = count if flags & 1 else 0
    elif data[offset + 36 : offset + 40] == b"VBRI":
        (frames,) = struct.unpack_from(">I", data, offset + 50)
    return frames * samples * 1000 // rate
