"""Audio files made by real encoders."""

from __future__ import annotations

import array
import io
import math
import wave
from fractions import Fraction
from typing import Any

import av

SILENCE = b"\xf8\xff\xfe"
"""A packet of Opus."""


def samples(seconds: float, rate: int, channels: int = 1) -> bytes:
    """A tone of 440 Hz in 16 bit, the channels interleaved."""
    tone = (int(9_000 * math.sin(math.tau * 440 * number / rate)) for number in range(int(seconds * rate)))
    return array.array("h", [value for value in tone for _ in range(channels)]).tobytes()


def wav(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples(seconds, rate, channels))
    return stream.getvalue()


def encoded(container: str, codec: str, seconds: float = 1.0, rate: int = 48_000, channels: int = 1, **options: str) -> bytes:
    """A tone in `container` (mp3, webm, ogg, matroska) by `codec`. `options` are the container's."""
    stream = io.BytesIO()
    layout = "mono" if channels == 1 else "stereo"
    with av.open(stream, "w", format=container, options=options) as file:
        track: Any = file.add_stream(codec, rate=rate, options={"strict": "experimental"})  # as FFmpeg calls its own Vorbis
        track.codec_context.layout = layout
        resampler = av.AudioResampler(format=track.codec_context.format, layout=layout, rate=rate)
        whole = av.AudioFrame(format="s16", layout=layout, samples=int(seconds * rate))
        whole.planes[0].update(samples(seconds, rate, channels))
        whole.sample_rate, whole.pts = rate, 0
        for frame in (*resampler.resample(whole), *resampler.resample(None)):
            for packet in track.encode(frame):
                file.mux(packet)
        for packet in track.encode(None):
            file.mux(packet)
    return stream.getvalue()


def long_webm(seconds: int) -> bytes:
    """The same 20 ms of silence in Opus again and again: the least bytes for so much sound."""
    stream = io.BytesIO()
    with av.open(io.BytesIO(encoded("webm", "libopus")), "r") as short, av.open(stream, "w", format="webm") as file:
        track: Any = file.add_stream_from_template(short.streams.audio[0])
        for number in range(seconds * 50):
            packet = av.Packet(SILENCE)
            packet.stream, packet.time_base = track, Fraction(1, 1_000)
            packet.pts = packet.dts = number * 20
            file.mux(packet)
    return stream.getvalue()


def decoded_ms(data: bytes, container: str) -> float:
    """How long a decoder finds it."""
    with av.open(io.BytesIO(data), "r", format=container) as file:
        return sum(frame.samples * 1000 / frame.sample_rate for frame in file.decode(audio=0))
