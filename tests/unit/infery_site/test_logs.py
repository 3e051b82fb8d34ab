"""Canaries: nothing that was not meant for the log may be found in it."""

import io
import json
import logging

import pytest
import structlog

from infery_site import logs


@pytest.fixture
def written():
    """What a handler with our formatter wrote, as a function that gives the lines so far."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.json_formatter())
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.propagate = True


def test_a_record_of_structlog_is_a_line_of_json(written):
    structlog.get_logger("tests.logs").info("settled", generation="chatcmpl-1", status=200)
    (line,) = written()
    assert line["event"] == "settled"
    assert line["status"] == 200
    assert line["level"] == "info"
    assert line["timestamp"].endswith("Z")


def test_a_record_of_a_library_keeps_the_fields_that_are_known(written):
    logging.getLogger("tests.logs").warning("left %s", "early", extra={"request_id": "req-1", "body": "CANARY"})
    (line,) = written()
    assert line["event"] == "left early"
    assert line["request_id"] == "req-1"
    assert "CANARY" not in json.dumps(line)


def test_fields_that_are_not_on_the_list_are_dropped(written):
    structlog.get_logger("tests.logs").info("received", prompt="CANARY", messages=["CANARY"], model="gpt-4o")
    (line,) = written()
    assert line["model"] == "gpt-4o"
    assert "CANARY" not in json.dumps(line)


def test_an_exception_is_placed_and_not_quoted(written):
    def fail():
        raise RuntimeError("CANARY one") from ValueError("CANARY two")

    try:
        fail()
    except RuntimeError:
        logging.getLogger("tests.logs").exception("failed")
        structlog.get_logger("tests.logs").exception("failed")
    for line in written():
        assert "RuntimeError" in line["exception"]
        assert "ValueError" in line["exception"]
        assert "test_logs.py" in line["exception"]
        assert "CANARY" not in json.dumps(line)


@pytest.mark.parametrize(
    "secret",
    [
        "inf_" + "a1B2" * 9,
        "sk-" + "a" * 40,
        "sk-ant-api03-" + "b_c" * 10,
        "AIza" + "x" * 35,
        "gsk_" + "y" * 30,
    ],
)
@pytest.mark.parametrize("text", ["{}", "key was {}.", "{{'authorization': 'Bearer {}'}}", "GET /v1/models?api_key={}&x=1"])
def test_keys_are_masked_wherever_they_stand(written, secret, text):
    logging.getLogger("tests.logs").error(text.replace("{}", secret).replace("{{", "{").replace("}}", "}"))
    structlog.get_logger("tests.logs").error("x", cause=text.format(secret))
    assert secret not in json.dumps(written())


def test_passwords_in_addresses_are_masked():
    assert "hunter2" not in logs.redact("cannot reach postgres://gateway:hunter2@db/name")


def test_ordinary_text_is_left_as_it_is():
    text = "model gpt-4o-mini of provider openai answered 503 after 12 ms; see inf_ and sk- in the docs"
    assert logs.redact(text) == text
