import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infery_site.errors import ApiError, error_type, internal_error, quoted


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "invalid_request_error"),
        (401, "auth_error"),
        (402, "quota_exceeded"),
        (403, "auth_error"),
        (404, "invalid_request_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_the_type_follows_from_the_status(status, expected):
    assert error_type(status) == expected


def test_the_envelope_is_openais():
    error = ApiError(400, "out_of_range", "'n' must be between 1 and 128.", param="n")
    assert json.loads(error.envelope()) == {
        "error": {
            "message": "'n' must be between 1 and 128.",
            "type": "invalid_request_error",
            "param": "n",
            "code": "out_of_range",
        }
    }


def test_param_is_null_when_no_field_is_at_fault():
    assert json.loads(internal_error().envelope())["error"]["param"] is None


@given(text=st.text())
def test_what_the_caller_sent_is_shown_short_and_without_control_characters(text):
    shown = quoted(text)
    assert len(shown) <= 64 + 3
    assert shown.isprintable()


def test_a_long_value_is_seen_to_be_cut():
    assert quoted("x" * 65) == f"'{'x' * 64}…'"
    assert quoted("x" * 64) == f"'{'x' * 64}'"
