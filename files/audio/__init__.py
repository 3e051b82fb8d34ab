"""Audio: judged by its own bytes, so that its length is known before anyone pays, and turned into WAV where it must be.

    sound.py       Sound, and the limits of one
    wav.py mpeg.py webm.py     the headers of each format (pure)
    conversion.py  pcm16 and WebM to WAV

The headers are read here and not by a library that could be led to work: each file costs a bounded number of steps and no
memory. A length is what the bytes hold, never what a header claims; a header that claims more than they hold is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from files.audio import mpeg, wav, webm
from files.audio.conversion import to_wav
from files.audio.sound import MAX_CONVERTED_MS, MAX_DURATION_MS, Sound, checked
from files.errors import InvalidAudio

__all__ = ["FORMATS", "MAX_CONVERTED_MS", "MAX_DURATION_MS", "Sound", "measure", "to_wav"]

_MEASURES: dict[str, Callable[[bytes], Sound]] = {
    "wav": wav.measure,
    "mp3": mpeg.measure,
    "pcm16": wav.measure_samples,
    "webm": webm.measure,
}
FORMATS = frozenset(_MEASURES)


def measure(data: bytes, audio_format: str) -> Sound:
    """Judge `data`, sent as `audio_format`. Takes up to half a second for 20 MB: give it a thread then.

    Raises InvalidAudio for another format and for what is none, AudioTooLong.
    """
    try:
        measured = _MEASURES[audio_format](data)
    except (KeyError, IndexError, ValueError, struct.error):
        raise InvalidAudio from None
    return checked(measured)
