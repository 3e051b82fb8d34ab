"""The sound of a WebM file as mono PCM of 16 bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError

# Of the whole of FFmpeg, what a browser records.
_CODECS = {"opus", "libopus", "vorbis"}


def run(request: dict[str, Any], source: Path, emit: Any) -> None:
    most_bytes = request["max_bytes"]
    samples = bytearray()
    try:
        # A file object, so that no name in the file can lead to another place.
        with source.open("rb") as file, av.open(file, "r", "matroska", metadata_errors="ignore") as container:
            stream = container.streams.audio[0]
            if stream.codec_context.name not in _CODECS:
                emit(error="invalid_audio")
                return
            resampler = av.AudioResampler(format="s16", layout="mono", rate=request["sample_rate"])
            for frame in container.decode(stream):
                for converted in resampler.resample(frame):
                    samples += bytes(converted.planes[0])[: converted.samples * 2]
                if len(samples) > most_bytes:
                    emit(error="audio_too_long")
                    return
            for converted in resampler.resample(None):
                samples += bytes(converted.planes[0])[: converted.samples * 2]
    except (FFmpegError, ValueError, IndexError):
        emit(error="invalid_audio")
        return
    emit(bytes(samples))
