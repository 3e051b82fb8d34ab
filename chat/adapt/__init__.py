"""What a target cannot take is changed here, and every change is named (pure).

`adapt` is used by the quote and by each attempt alike, so what is promised is what is sent. A change is a text such as
`dropped=top_k`, `clamped=temperature:1`, `response_format=instruction`; nothing is dropped without one. What cannot be
changed without changing what was asked is refused. The request given is never altered.

The tables say what a dialect has no word for; the quirks of a target, how a server differs from its dialect. Adapters
translate what is left, all of it.

What is said in another way is no change: identifiers leave as tags of the workspace (`user`, `safety_identifier`,
`prompt_cache_key`), ids and names of calls in the letters that a provider takes, the name of a JSON schema as its title.
Structured output is always strict where it is native, so `strict` of a schema changes nothing but at OpenAI. Neither is what
is kept here on the way back: usage in every stream, and one call at most without `parallel_tool_calls` from Gemini.

    changes.py    what was changed so far     parameters.py   fields of the request itself
    messages.py   their parts and fields      documents.py    PDFs for models that do not read them
    functions.py  tools                       formats.py      answers in JSON
    schemas.py    what a schema asks for
"""

from __future__ import annotations

import msgspec

from chat.adapt.changes import Changes
from chat.adapt.documents import is_converting, spoken
from chat.adapt.formats import JSON_TOOL, fit_response_format
from chat.adapt.functions import fit_tools
from chat.adapt.messages import MOST_IMAGE_BYTES, fit_messages, takes_image
from chat.adapt.parameters import fit_parameters, refuse_choices, refuse_foreign, wants_thought
from chat.schema.content import Content
from chat.schema.quote import Adapted
from chat.schema.request import ChatRequest
from chat.schema.route import ModelInfo, TargetInfo

__all__ = ["JSON_TOOL", "MOST_IMAGE_BYTES", "Adapted", "adapt", "is_converting", "spoken", "takes_image", "wants_thought"]


def adapt(request: ChatRequest, content: Content, model: ModelInfo, target: TargetInfo) -> Adapted:
    """Fit `request` to one target of `model`. Raises UnsupportedParameter for what neither fits nor can be left out."""
    changes = Changes(request, model, target)
    refuse_choices(changes)
    if changes.dialect != "openai":
        refuse_foreign(changes)
    fit_parameters(changes, content)
    fit_messages(changes, content)
    fit_tools(changes)
    fit_response_format(changes)
    if not changes.names and not changes.fields:
        return Adapted(request, ())
    return Adapted(msgspec.structs.replace(request, **changes.fields), tuple(changes.names), changes.json_tool)
