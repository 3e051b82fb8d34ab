"""What Django answers around its views: request ids, headers, and JSON for programs."""

import json
import re

import pytest
from django.http import HttpResponse, HttpResponseNotAllowed
from django.test import RequestFactory
from django.urls import path

from infery_site.middleware import ApiAnswers, is_allowed_host, is_page, offered_request_id
from infery_site.responses import UnsafeHeaderError


def answered(view, path="/v1/things", **headers):
    return ApiAnswers(view)(RequestFactory().get(path, headers=headers))


def code_of(response):
    return json.loads(response.content)["error"]["code"]


def test_a_good_request_id_comes_back():
    assert answered(lambda request: HttpResponse(), **{"x-request-id": "abc.1"})["x-request-id"] == "abc.1"


@pytest.mark.parametrize("label", ["a b", "x" * 129, "a\x7f", "ä"])
def test_a_bad_request_id_is_replaced(label):
    response = answered(lambda request: HttpResponse(), **{"x-request-id": label})
    assert re.fullmatch(r"req-[0-9A-Za-z]{29}", response["x-request-id"])


def test_answers_of_the_api_are_not_kept_by_caches():
    response = answered(lambda request: HttpResponse())
    assert response["cache-control"] == "no-store"
    assert response["x-content-type-options"] == "nosniff"


def test_an_error_in_another_format_becomes_the_envelope_and_keeps_its_allow_header():
    response = answered(lambda request: HttpResponseNotAllowed(["GET", "HEAD"]))
    assert response.status_code == 405
    assert response["content-type"] == "application/json; charset=utf-8"
    assert response["allow"] == "GET, HEAD"
    assert code_of(response) == "method_not_allowed"


def test_an_envelope_is_left_alone():
    body = b'{"error": {"code": "model_not_found"}}'
    response = answered(lambda request: HttpResponse(body, status=404, content_type="application/json; charset=utf-8"))
    assert response.content == body


def test_pages_keep_their_html():
    response = answered(lambda request: HttpResponse("<h1>No</h1>", status=404), path="/admin/nothing/")
    assert response.content == b"<h1>No</h1>"
    assert response["x-request-id"]


def test_a_header_that_cannot_be_written_is_not_written():
    def view(request):
        response = HttpResponse()
        response["x-model-used"] = "m\x7f"
        return response

    with pytest.raises(UnsafeHeaderError):
        answered(view)


@pytest.mark.parametrize("url", ["/nothing", "/v1", "/v1/nothing", "/v1/models/", "//v1/models", "/v1/../admin", "/v1/a%00b"])
def test_an_unknown_url_is_answered_in_json(client, url):
    response = client.generic("GET", url)
    assert response.status_code == 404
    assert code_of(response) == "unknown_url"
    assert response["x-request-id"]


def test_a_host_that_is_not_ours_is_refused_in_json(client):
    response = client.get("/v1/models", headers={"host": "evil.example"})
    assert response.status_code == 400
    assert code_of(response) == "invalid_host"
    assert response["cache-control"] == "no-store"


def test_a_failing_view_tells_nothing(client, settings):
    settings.ROOT_URLCONF = __name__
    client.raise_request_exception = False
    response = client.get("/v1/broken")
    assert response.status_code == 500
    assert code_of(response) == "internal_error"
    assert b"secret" not in response.content


def _broken(request):
    raise RuntimeError("secret")


# This module stands in for the project's urls in one test.
urlpatterns = [path("v1/broken", _broken)]
handler500 = "infery_site.middleware.server_error"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("testserver", True),
        ("testserver:8000", True),
        ("evil.example", False),
        ("testserver.evil.example", False),
        ("", False),
        ("testserver@evil.example", False),
        ("testserver:8000:1", False),
        ("[::1", False),
    ],
)
def test_hosts(host, is_ours):
    is_allowed_host.cache_clear()
    assert is_allowed_host(host) is is_ours


def test_only_the_consoles_are_pages():
    assert is_page("/admin/")
    assert not is_page("/v1/admin/")


def test_the_offered_label_is_found_among_raw_headers():
    assert offered_request_id([(b"a", b"b"), (b"x-request-id", b"\xe4")]) == "ä"
    assert offered_request_id([]) is None
