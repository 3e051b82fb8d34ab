"""To WAV, which every provider with ears takes: raw samples by a header, WebM by decoding it in the sandbox."""

from __future__ import annotations

from files.audio import wav
from files.audio.sound import MAX_CONVERTED_MS, Sound
from files.errors import AudioTooLong, InvalidAudio
from files.sandbox import Limits, Sandbox, SandboxFailed

WAV_RATE = 16_000
"""Of what WebM becomes: what models of speech listen to."""

_MAX_BYTES = MAX_CONVERTED_MS * WAV_RATE * 2 // 1000
_LIMITS = Limits(cpu_s=20, wall_s=30, output_bytes=_MAX_BYTES + 4_096, memory_bytes=768 * 1024 * 1024)


async def to_wav(data: bytes, sound: Sound, *, sandbox: Sandbox) -> bytes:
    """Audio that was measured, as mono WAV of 16 bit; WAV as it is.

    Raises InvalidAudio for what cannot be decoded or is longer than it was measured, AudioTooLong, ConversionsBusy; and
    ValueError for MP3, which is not to be converted.
    """
    if sound.format == "wav":
        return data
    if sound.format == "pcm16":
        return wav.header(len(data), wav.PCM16_RATE) + data
    if sound.format != "webm":
        raise ValueError(sound.format)
    samples = await _decoded(data, sandbox)
    if len(samples) % 2 or not 0 < len(samples) <= sound.duration_ms * WAV_RATE * 2 // 1000:
        raise InvalidAudio
    return wav.header(len(samples), WAV_RATE) + samples


async def _decoded(data: bytes, sandbox: Sandbox) -> bytes:
    request = {"max_bytes": _MAX_BYTES, "sample_rate": WAV_RATE}
    try:
        frames = await sandbox.run("audio", request, data, _LIMITS)
    except SandboxFailed:
        raise InvalidAudio from None
    if len(frames) == 1 and frames[0].meta.get("error") == "audio_too_long":
        raise AudioTooLong
    if len(frames) != 1 or "error" in frames[0].meta:
        raise InvalidAudio
    return frames[0].data
