"""What is known of a piece of audio before it is decoded (pure)."""

from __future__ import annotations

import msgspec

from files.errors import AudioTooLong, InvalidAudio

MAX_DURATION_MS = 4 * 3600 * 1000
MAX_CONVERTED_MS = 600 * 1000
"""Of WebM: ten minutes are 19 MB of WAV."""

RATES = range(8_000, 192_001)
CHANNELS = range(1, 9)


class Sound(msgspec.Struct, frozen=True):
    """`duration_ms` is an upper bound: exact for WAV, raw samples and MP3; for WebM with a second on top of its last block."""

    format: str
    duration_ms: int
    sample_rate: int
    channels: int

    @property
    def duration_s(self) -> int:
        """Whole seconds, rounded up: what is priced."""
        return -(-self.duration_ms // 1000)


def checked(sound: Sound) -> Sound:
    """Raises InvalidAudio for rates, channels and silence that no recording has, AudioTooLong."""
    if sound.sample_rate not in RATES or sound.channels not in CHANNELS or sound.duration_ms <= 0:
        raise InvalidAudio
    if sound.duration_ms > (MAX_CONVERTED_MS if sound.format == "webm" else MAX_DURATION_MS):
        raise AudioTooLong
    return sound
