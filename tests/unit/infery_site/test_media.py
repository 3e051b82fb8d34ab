import pytest

from infery_site.errors import ApiError
from infery_site.media import check_content_type


@pytest.mark.parametrize(
    ("content_type", "content_encoding", "code"),
    [
        pytest.param(b"text/plain", b"", "unsupported_media_type", id="row-17-text"),
        pytest.param(b"application/x-www-form-urlencoded", b"", "unsupported_media_type", id="row-17-form"),
        pytest.param(b"", b"", "unsupported_media_type", id="row-17-missing"),
        pytest.param(b"application/json; charset=utf-16", b"", "unsupported_charset", id="row-18"),
        pytest.param(b"application/json", b"gzip", "unsupported_encoding", id="row-19"),
    ],
)
def test_a_body_declared_as_something_else_is_refused(content_type, content_encoding, code):
    with pytest.raises(ApiError) as caught:
        check_content_type(content_type, content_encoding)
    assert (caught.value.status, caught.value.code, caught.value.param) == (415, code, None)


@pytest.mark.parametrize("content_type", [b"application/json", b'Application/JSON ; x=y; Charset="UTF-8"'])
@pytest.mark.parametrize("content_encoding", [b"", b"Identity"])
def test_json_in_utf_8_is_accepted(content_type, content_encoding):
    assert check_content_type(content_type, content_encoding) is None
