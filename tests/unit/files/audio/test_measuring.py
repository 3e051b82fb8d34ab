"""B8, rows 102 and 103: the length of audio by its own bytes."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from files.audio import FORMATS, MAX_CONVERTED_MS, MAX_DURATION_MS, Sound, measure
from files.errors import AudioTooLong, InvalidAudio
from tests.fakes import sounds

WAV = sounds.wav()
MP3 = sounds.encoded("mp3", "libmp3lame", 1.0, 44_100)
WEBM = sounds.encoded("webm", "libopus")
BOUND_S = 10

REAL_MP3 = [(44_100, 2), (48_000, 1), (32_000, 1), (24_000, 1), (22_050, 2), (16_000, 1), (11_025, 1), (8_000, 1)]
REAL_WEBM = {
    "opus": ("libopus", 48_000, 2, {}),
    "opus-of-a-running-recording": ("libopus", 48_000, 1, {"live": "1"}),
    "opus-in-many-clusters": ("libopus", 48_000, 1, {"cluster_time_limit": "100"}),
    "vorbis": ("vorbis", 44_100, 2, {}),
}


def wav_of(form, data=bytes(1_000), *, claimed=None, riff=None, before=b""):
    size = len(data) if claimed is None else claimed
    body = b"WAVE" + before + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) if riff is None else riff) + body


def form(code=1, channels=1, rate=8_000, bits=16, block=None, per_second=None):
    block = channels * bits // 8 if block is None else block
    return struct.pack(
        "<HHIIHH", code, channels, rate, rate * block & 0xFFFF_FFFF if per_second is None else per_second, block & 0xFFFF, bits
    )


def mp3_claiming(frames, name=b"Xing"):
    """Whose first frame says that the whole has so many."""
    start = MP3.index(b"\xff\xfb")
    frame = bytearray(MP3[start : MP3.index(b"\xff\xfb", start + 4)])
    frame[4:] = bytes(len(frame) - 4)
    if name == b"VBRI":
        frame[36:54] = b"VBRI" + bytes(10) + struct.pack(">I", frames)
    else:
        frame[21:33] = name + struct.pack(">II", 1, frames)
    return bytes(frame) + MP3[start:]


def element(name, data, *, size=None):
    return bytes.fromhex(name) + (0x01 << 56 | (len(data) if size is None else size)).to_bytes(8) + data


def webm_of(
    *,
    doc_type=b"webm",
    codec=b"A_OPUS",
    kind=2,
    rate=48_000.0,
    channels=1,
    scale=1_000_000,
    duration=None,
    times=(0, 500),
    extra=b"",
):
    info = element("2AD7B1", scale.to_bytes(8)) + (b"" if duration is None else element("4489", struct.pack(">d", duration)))
    sound = element("E1", element("B5", struct.pack(">d", rate)) + element("9F", channels.to_bytes(4)))
    track = element("AE", element("D7", b"\1") + element("83", bytes([kind])) + element("86", codec) + sound)
    clusters = b"".join(
        element("1F43B675", element("E7", at.to_bytes(8)) + element("A3", b"\x81\0\0\x80" + b"opus")) for at in times
    )
    segment = element("1549A966", info) + element("1654AE6B", track) + clusters + extra
    return element("1A45DFA3", element("4282", doc_type)) + element("18538067", segment)


HOSTILE = {
    "wav-65535-channels": ("wav", wav_of(form(channels=65_535, bits=8))),
    "wav-no-channels": ("wav", wav_of(form(channels=0))),
    "wav-10-9-samples": ("wav", wav_of(form(), claimed=2_000_000_000)),
    "wav-riff-beyond-the-file": ("wav", wav_of(form(), riff=2_000_000_000)),
    "wav-10-h-at-1-hz": ("wav", wav_of(form(rate=1, bits=8), bytes(36_000))),
    "wav-4-ghz": ("wav", wav_of(form(rate=4_000_000_000))),
    "wav-bytes-per-second-do-not-add-up": ("wav", wav_of(form(per_second=1))),
    "wav-block-of-0": ("wav", wav_of(form(block=0))),
    "wav-of-another-codec": ("wav", wav_of(form(code=0x55))),
    "wav-without-form": ("wav", b"RIFF" + struct.pack("<I", 20) + b"WAVEdata" + bytes(12)),
    "wav-without-data": ("wav", wav_of(form())[:36].replace(b"data", b"junk")),
    "wav-nothing-in-it": ("wav", wav_of(form(), b"")),
    "wav-many-chunks": ("wav", wav_of(form(), before=b"junk\0\0\0\0" * 1_000_000)),
    "wav-chunk-beyond-the-file": ("wav", wav_of(form(), before=b"junk\xff\xff\xff\x7f")),
    "wav-cut": ("wav", WAV[:100]),
    "mp3-10-h": ("mp3", mp3_claiming(36_000 * 44_100 // 1_152)),
    "mp3-10-h-by-another-encoder": ("mp3", mp3_claiming(2**32 - 1, b"VBRI")),
    "mp3-10-h-by-info": ("mp3", mp3_claiming(2**31, b"Info")),
    "mp3-tag-beyond-the-file": ("mp3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + MP3),
    "mp3-tag-not-as-it-should-be": ("mp3", b"ID3\x04\0\0\xff\xff\xff\xff" + MP3),
    "mp3-tags-without-end": ("mp3", b"ID3\x04\0\0\0\0\0\0" * 100_000),
    "mp3-of-ones": ("mp3", b"\xff" * 20_000_000),
    "mp3-damaged-everywhere": ("mp3", MP3 + b"\xff\xfb\xf0" * 6_000_000),
    "mp3-free-format": ("mp3", b"\xff\xfb\x00\x00" * 1_000),
    "mp3-layer-ii": ("mp3", b"\xff\xfd\x90\x00" * 1_000),
    "webm-65535-channels": ("webm", webm_of(channels=65_535)),
    "webm-10-h": ("webm", webm_of(duration=36_000_000.0)),
    "webm-10-h-by-its-blocks": ("webm", webm_of(times=(0, 36_000_000))),
    "webm-scale": ("webm", webm_of(scale=2**63)),
    "webm-not-a-number": ("webm", webm_of(duration=float("nan"))),
    "webm-endless": ("webm", webm_of(duration=float("inf"))),
    "webm-1-hz": ("webm", webm_of(rate=1.0)),
    "webm-film": ("webm", webm_of(kind=1, codec=b"V_VP9")),
    "webm-other-codec": ("webm", webm_of(codec=b"A_PCM/INT/LIT")),
    "webm-matroska": ("webm", webm_of(doc_type=b"matroska")),
    "webm-no-blocks": ("webm", webm_of(times=())),
    "webm-void-without-end": ("webm", webm_of(extra=b"\xec\x80" * 9_000_000)),
    "webm-beyond-the-file": ("webm", webm_of(extra=element("EC", b"", size=2**40))),
    "webm-number-of-9-bytes": ("webm", b"\x1a\x45\xdf\xa3\x00" + bytes(20)),
    "webm-cut": ("webm", WEBM[:-10]),
    "pcm16-half-a-sample": ("pcm16", bytes(101)),
    "pcm16-nothing": ("pcm16", b""),
    "row-102-flac9": ("flac9", WAV),
    "row-102-wav-as-mp3": ("mp3", WAV),
    "row-102-mp3-as-wav": ("wav", MP3),
    "row-102-webm-as-mp3": ("mp3", WEBM),
    "row-102-ogg-as-webm": ("webm", b"OggS" + bytes(100)),
    "row-102-page-as-mp3": ("mp3", b"<!doctype html>" * 100),
    "row-102-nothing": ("wav", b""),
}


@pytest.mark.parametrize(("audio_format", "data"), HOSTILE.values(), ids=HOSTILE)
def test_what_no_recorder_makes_is_refused(audio_format, data):
    started = time.monotonic()
    with pytest.raises(InvalidAudio) as caught:
        measure(data, audio_format)
    assert time.monotonic() - started < BOUND_S
    error = caught.value.at("messages[0].content[0].input_audio")
    assert (error.status, error.code) == (400, "invalid_audio")


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 1), (24_000, 1), (44_100, 2), (48_000, 2)])
def test_wav_is_as_long_as_its_samples(rate, channels):
    assert measure(sounds.wav(1.5, rate, channels), "wav") == Sound("wav", 1_500, rate, channels)


@pytest.mark.parametrize(
    "data",
    [
        wav_of(form(code=3, bits=32), bytes(32_000)),
        wav_of(form(code=6, bits=8), bytes(8_000)),
        wav_of(form(code=0xFFFE) + struct.pack("<HHI", 22, 16, 4) + b"\1\0" + bytes(14), bytes(16_000)),
        wav_of(form(), bytes(16_000), claimed=0xFFFF_FFFF, riff=0xFFFF_FFFF),
        wav_of(form(), bytes(16_000), claimed=0, riff=0),
        wav_of(form(), bytes(16_000), before=b"LIST\x03\0\0\0abc\0"),
        wav_of(form(), bytes(16_000)) + b"LIST\x02\0\0\0ab",
    ],
    ids=["float", "a-law", "extensible", "no-size", "no-size-either", "chunk-before", "chunk-behind"],
)
def test_wav_in_its_other_forms(data):
    assert measure(data, "wav").duration_ms == 1_000


@pytest.mark.parametrize(("rate", "channels"), REAL_MP3)
def test_mp3_is_as_long_as_its_frames(rate, channels):
    data = sounds.encoded("mp3", "libmp3lame", 2.5, rate, channels)
    sound = measure(data, "mp3")
    assert (sound.format, sound.sample_rate, sound.channels) == ("mp3", rate, channels)
    # The first frame of this encoder is silent information, and the last is filled up.
    assert 2_500 <= sound.duration_ms <= sounds.decoded_ms(data, "mp3") + 5 * 1_152_000 / min(rate, 16_000)


@pytest.mark.parametrize(
    "data",
    [
        MP3 + b"TAG" + bytes(125),
        MP3 + b"APETAGEX" + bytes(500),
        b"ID3\x04\0\0\0\0\x02\0" + bytes(256) + MP3,
        bytes(200) + MP3,
        MP3[:-50],
    ],
    ids=["tag-at-the-end", "another-tag-at-the-end", "tag-in-front", "silence-in-front", "cut-in-the-last-frame"],
)
def test_mp3_with_something_around_it(data):
    assert measure(data, "mp3").duration_ms == pytest.approx(measure(MP3, "mp3").duration_ms, abs=30)


def test_frames_behind_damage_count():
    whole = measure(MP3, "mp3").duration_ms
    assert measure(MP3 + b"\xff\0damage" + MP3, "mp3").duration_ms == pytest.approx(2 * whole, abs=60)


@pytest.mark.parametrize(("codec", "rate", "channels", "options"), REAL_WEBM.values(), ids=REAL_WEBM)
def test_webm_is_no_longer_than_said(codec, rate, channels, options):
    data = sounds.encoded("webm", codec, 2.5, rate, channels, **options)
    sound = measure(data, "webm")
    assert (sound.format, sound.sample_rate, sound.channels) == ("webm", rate, channels)
    assert sounds.decoded_ms(data, "webm") <= sound.duration_ms <= 3_600


def test_samples_are_24_000_in_a_second():
    assert measure(bytes(48_000 * 3 + 2), "pcm16") == Sound("pcm16", 3_001, 24_000, 1)


def test_what_is_priced_is_whole_seconds():
    assert [Sound("wav", duration_ms, 8_000, 1).duration_s for duration_ms in (1, 1_000, 1_001)] == [1, 1, 2]


def test_length_has_a_limit():
    assert measure(webm_of(times=(0, MAX_CONVERTED_MS - 1_000)), "webm").duration_ms == MAX_CONVERTED_MS
    with pytest.raises(AudioTooLong):
        measure(webm_of(times=(0, MAX_CONVERTED_MS - 999)), "webm")
    frame = b"\xff\xe3\x18\x00" + bytes(68)  # 8 kHz, 8 kbit/s: 72 ms in 72 bytes
    assert measure(frame * (MAX_DURATION_MS // 72), "mp3").duration_ms == MAX_DURATION_MS
    with pytest.raises(AudioTooLong):
        measure(frame * (MAX_DURATION_MS // 72 + 1), "mp3")


@pytest.mark.parametrize("audio_format", sorted(FORMATS))
@given(
    data=st.one_of(
        st.binary(max_size=300), st.tuples(st.sampled_from([WAV, MP3, WEBM]), st.integers(0, 400), st.binary(max_size=9))
    )
)
def test_any_bytes_are_measured_or_refused(audio_format, data):
    if isinstance(data, tuple):
        whole, at, other = data
        data = whole[:at] + other + whole[at + len(other) : 3_000]
    try:
        sound = measure(data, audio_format)
    except InvalidAudio:
        return
    assert 0 < sound.duration_ms <= MAX_DURATION_MS
