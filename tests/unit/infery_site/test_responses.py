import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infery_site.errors import ApiError
from infery_site.responses import UnsafeHeaderError, encode_headers, error_response, send_error


@given(value=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_visible_ascii_passes_unchanged(value):
    assert encode_headers([("x-a", value)]) == [(b"x-a", value.encode("ascii"))]


@given(
    bad=st.one_of(st.characters(max_codepoint=0x1F), st.characters(min_codepoint=0x7F)),
    before=st.text(max_size=3),
    after=st.text(max_size=3),
)
def test_any_other_character_is_refused_in_values_and_names(bad, before, after):
    with pytest.raises(UnsafeHeaderError):
        encode_headers([("x-a", before + bad + after)])
    with pytest.raises(UnsafeHeaderError):
        encode_headers([("x" + bad, "value")])


def test_the_refusal_names_the_header_and_not_its_value():
    with pytest.raises(UnsafeHeaderError, match="x-model-used") as caught:
        encode_headers([("x-model-used", "secret\r\nset-cookie: a=b")])
    assert "secret" not in str(caught.value)


def test_a_django_response_carries_the_envelope_and_the_errors_headers():
    response = error_response(ApiError(429, "rate_limit_exceeded", "Slow down.", headers=[("retry-after", "3")]))
    assert response.status_code == 429
    assert response["content-type"] == "application/json; charset=utf-8"
    assert response["retry-after"] == "3"
    assert json.loads(response.content)["error"]["code"] == "rate_limit_exceeded"


async def test_an_error_outside_django_is_one_whole_answer():
    sent = []

    async def send(message):
        sent.append(message)

    await send_error(send, ApiError(404, "unknown_url", "Nothing here."), "req-1")
    start, body = sent
    headers = dict(start["headers"])
    assert start["status"] == 404
    assert headers[b"x-request-id"] == b"req-1"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    assert not body["more_body"]
