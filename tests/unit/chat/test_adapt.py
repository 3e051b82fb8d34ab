"""What a target cannot take is changed, and every change is named."""

from __future__ import annotations

import pytest

from chat.adapt import adapt
from chat.schema.request import JsonObjectFormat, JsonSchema, JsonSchemaFormat, SystemMessage
from tests.unit.chat.values import EVERYTHING, model, request, target

SCHEMA = JsonSchemaFormat(JsonSchema("answer", schema={"type": "object", "properties": {"city": {"type": "string"}}}))


def test_a_request_that_fits_is_passed_as_it_is():
    asked = request(temperature=1)
    adapted = adapt(asked, model(), target())
    assert adapted.request is asked
    assert adapted.changes == ()


@pytest.mark.parametrize(
    ("fields", "quirks", "capabilities", "changes"),
    [
        ({"top_k": 5}, (), EVERYTHING, ("dropped=top_k",)),
        ({"top_k": 5}, ("top_k",), EVERYTHING, ()),
        ({"metadata": {"a": "b"}}, (), EVERYTHING, ("dropped=metadata",)),
        ({"reasoning_effort": "low"}, (), EVERYTHING - {"reasoning"}, ("dropped=reasoning_effort",)),
        ({"reasoning_effort": "low"}, (), EVERYTHING, ()),
        ({"temperature": 1.0, "top_p": 0.5}, ("no_temperature_with_top_p",), EVERYTHING, ("dropped=top_p",)),
        ({"temperature": 1.0, "logprobs": True}, ("no_sampling",), EVERYTHING, ("dropped=temperature", "dropped=logprobs")),
    ],
)
def test_what_a_target_cannot_take_is_dropped_and_named(fields, quirks, capabilities, changes):
    asked = request(**fields)
    adapted = adapt(asked, model(capabilities=capabilities), target(*quirks))
    assert adapted.changes == changes
    for change in changes:
        name = change.partition("=")[2]
        assert getattr(adapted.request, name) is None
        assert getattr(asked, name) is not None


def test_a_schema_becomes_an_instruction_where_the_model_has_no_structured_output():
    adapted = adapt(request(response_format=SCHEMA), model(capabilities=EVERYTHING - {"json_schema"}), target())
    assert adapted.changes == ("response_format=instruction",)
    assert isinstance(adapted.request.response_format, JsonObjectFormat)
    instruction = adapted.request.messages[0]
    assert isinstance(instruction, SystemMessage)
    assert '"city"' in instruction.content


def test_json_mode_becomes_an_instruction_where_the_model_has_none():
    plain = model(capabilities=EVERYTHING - {"json_schema", "json_mode"})
    adapted = adapt(request(response_format=JsonObjectFormat()), plain, target())
    assert adapted.request.response_format is None
    assert adapted.changes == ("response_format=instruction",)
    assert len(adapted.request.messages) == 2
