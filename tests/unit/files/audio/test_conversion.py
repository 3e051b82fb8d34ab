from __future__ import annotations

import io
import wave

import pytest

from files.audio import MAX_CONVERTED_MS, Sound, measure, to_wav
from files.errors import AudioTooLong, InvalidAudio
from files.sandbox import Sandbox
from tests.fakes import sounds
from tests.fakes.kept import WAYS

RECORDINGS = {
    "opus": ("libopus", 48_000, 2, {}),
    "opus-of-a-running-recording": ("libopus", 48_000, 1, {"live": "1"}),
    "vorbis": ("vorbis", 44_100, 2, {}),
}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return Sandbox(kept_in=request.param)


def parameters(data):
    with wave.open(io.BytesIO(data)) as file:
        return file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()


@pytest.mark.parametrize(("codec", "rate", "channels", "options"), RECORDINGS.values(), ids=RECORDINGS)
async def test_webm_becomes_wav(sandbox, codec, rate, channels, options):
    data = sounds.encoded("webm", codec, 2.5, rate, channels, **options)
    converted = await to_wav(data, measure(data, "webm"), sandbox=sandbox)
    assert parameters(converted)[:3] == (1, 2, 16_000)
    assert parameters(converted)[3] == pytest.approx(2.5 * 16_000, rel=0.02)
    assert measure(converted, "wav").duration_ms == pytest.approx(2_500, rel=0.02)
    loudest = max(map(abs, memoryview(converted[44:]).cast("h")))
    assert 3_000 < loudest < 20_000  # the tone is still there


async def test_samples_get_a_header(sandbox):
    data = sounds.samples(0.5, 24_000)
    converted = await to_wav(data, measure(data, "pcm16"), sandbox=sandbox)
    assert parameters(converted) == (1, 2, 24_000, 12_000)
    assert converted.endswith(data)


async def test_wav_stays_and_mp3_is_not_for_converting(sandbox):
    data = sounds.wav()
    assert await to_wav(data, measure(data, "wav"), sandbox=sandbox) is data
    with pytest.raises(ValueError, match="mp3"):
        await to_wav(data, Sound("mp3", 1_000, 44_100, 1), sandbox=sandbox)


async def test_a_recording_that_is_longer_than_it_said_is_refused(sandbox):
    """The price was told by its headers."""
    data = sounds.encoded("webm", "libopus", 5.0)
    with pytest.raises(InvalidAudio):
        await to_wav(data, Sound("webm", 1_000, 48_000, 1), sandbox=sandbox)


@pytest.mark.parametrize("damage", [b"\xff" * 400, b""], ids=["damaged", "cut"])
async def test_what_cannot_be_decoded_is_refused(sandbox, damage):
    data = sounds.encoded("webm", "libopus", 1.0)
    with pytest.raises(InvalidAudio):
        await to_wav(data[:100] + damage, measure(data, "webm"), sandbox=sandbox)


async def test_another_format_is_not_decoded(sandbox):
    """FFmpeg could, and would be led to all its other formats: what was measured as WebM is read as nothing else."""
    for data in (sounds.wav(), sounds.encoded("mp3", "libmp3lame", 1.0, 44_100), sounds.encoded("matroska", "pcm_s16le", 1.0)):
        with pytest.raises(InvalidAudio):
            await to_wav(data, Sound("webm", 2_000, 48_000, 1), sandbox=sandbox)


@pytest.mark.slow
async def test_more_than_ten_minutes_end_in_the_child(sandbox):
    data = sounds.long_webm(MAX_CONVERTED_MS // 1_000 + 5)
    with pytest.raises(AudioTooLong):
        await to_wav(data, Sound("webm", MAX_CONVERTED_MS, 48_000, 1), sandbox=sandbox)
