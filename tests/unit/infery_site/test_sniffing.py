from __future__ import annotations

import pytest

from infery_site.sniffing import IMAGE_TYPES, InvalidImage, UnsupportedImageFormat, image_type, sniff

KNOWN = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x0a\n\0\0WEBP",
    "audio/wav": b"RIFF\x0a\n\0\0WAVE",
    "application/pdf": b"%PDF-1.7",
    "audio/webm": b"\x1a\x45\xdf\xa3",
    "audio/mpeg": b"ID3\x04",
}
UNKNOWN = [
    b"",
    b"<svg/>",
    b"PK\x03\x04",
    b"MZ",
    b"\x7fELF",
    b"GIF88a",
    b"RIFF\0\0\0\0AVI ",
    b"%!PS",
    b"\xff\xf0",
    b"junk%PDF-1.7",
]


@pytest.mark.parametrize(("media_type", "start"), KNOWN.items(), ids=KNOWN)
def test_the_first_bytes_tell_the_type(media_type, start):
    assert sniff(start + b"anything\n") == media_type
    assert sniff(b" " + start) is None


@pytest.mark.parametrize("data", UNKNOWN)
def test_what_nobody_has_a_use_for_has_no_type(data):
    assert sniff(data) is None


@pytest.mark.parametrize("start", [b"\xff\xfb\x90", b"\xff\xf3\x40", b"\xff\xfa\x90", b"\xff\xf2\x40"])
def test_a_frame_of_layer_iii_is_mp3(start):
    assert sniff(start) == "audio/mpeg"


@pytest.mark.parametrize(("media_type", "start"), KNOWN.items(), ids=KNOWN)
def test_images_are_told_from_the_rest(media_type, start):
    if media_type in IMAGE_TYPES:
        assert image_type(start) == media_type
        for end in range(3 if media_type == "image/jpeg" else len(start)):
            with pytest.raises(InvalidImage):
                image_type(start[:end])
    else:
        with pytest.raises(UnsupportedImageFormat):
            image_type(start)
