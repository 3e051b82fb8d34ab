"""Fields of the request itself: dropped, brought within limits, or refused (pure)."""

from __future__ import annotations

from typing import Final

import msgspec

from chat.adapt.changes import Changes
from chat.errors import UnsupportedParameter
from chat.schema.content import Content
from chat.schema.request import AllowedToolsChoice, ChatRequest, CustomTool, FunctionChoice, FunctionMessage
from chat.schema.route import Dialect
from chat.thinking import LEAST_BUDGET_TOKENS, can_think

SAMPLING: Final = (
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "logit_bias",
)

_NO_WORD: dict[Dialect, tuple[str, ...]] = {
    "openai": ("metadata",),
    "anthropic": (
        *("metadata", "seed", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias"),
        *("verbosity", "prompt_cache_key"),
    ),
    "gemini": ("metadata", "logit_bias", "verbosity", "prompt_cache_key", "user", "safety_identifier"),
}
"""Parameters that a dialect has no field for; they leave no trace in an answer that somebody would build on."""

_LEFT_OUT: dict[str, tuple[str, ...]] = {
    "no_sampling": SAMPLING,
    "no_penalties": ("presence_penalty", "frequency_penalty"),
    "no_logprobs": ("logprobs", "top_logprobs"),
    "no_stop": ("stop",),
}
"""Parameters that a target with this quirk refuses, although its dialect has a word for them."""

_EFFORTS: dict[Dialect, dict[str, str]] = {
    "openai": {},
    "anthropic": {"minimal": "low"},
    "gemini": {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"},
}
"""The nearest effort that the models of a dialect take, where they do not take the one that was asked for."""

_ANTHROPIC_TEMPERATURE_MOST = 1.0
_SEEDS = 2**32


def refuse_choices(changes: Changes) -> None:
    is_single = changes.dialect == "anthropic" or "single_choice" in changes.target.quirks
    if is_single and changes.request.choice_count > 1:
        name = changes.model.slug
        raise UnsupportedParameter("n", f"The model {name} gives one choice only; leave out 'n' or set it to 1.")


def refuse_foreign(changes: Changes) -> None:
    """What only OpenAI's own dialect can say, and what would be another request without it."""
    request, name = changes.request, changes.model.slug
    if request.functions is not None:
        raise UnsupportedParameter("functions", f"The model {name} takes 'tools', not the older 'functions'.")
    for index, tool in enumerate(request.tools or ()):
        if isinstance(tool, CustomTool):
            message = f"The model {name} does not take custom tools; describe the tool as a function."
            raise UnsupportedParameter(f"tools[{index}].type", message)
    for index, said in enumerate(request.messages):
        if isinstance(said, FunctionMessage) or getattr(said, "function_call", None) is not None:
            text = f"The model {name} takes 'tool_calls' and messages of the role 'tool', not the older function calls."
            raise UnsupportedParameter(f"messages[{index}]", text)
        for position, call in enumerate(getattr(said, "tool_calls", None) or ()):
            if call.custom is not None:
                text = f"The model {name} does not take calls of custom tools."
                raise UnsupportedParameter(f"messages[{index}].tool_calls[{position}].type", text)


def fit_parameters(changes: Changes, content: Content) -> None:
    request, quirks, dialect = changes.request, changes.target.quirks, changes.dialect
    if dialect == "openai" and "top_k" not in quirks:
        changes.drop("top_k")
    for name in _NO_WORD[dialect]:
        changes.drop(name)
    for quirk, names in _LEFT_OUT.items():
        for name in names if quirk in quirks else ():
            changes.drop(name)
    if "no_temperature_with_top_p" in quirks and request.temperature is not None:
        changes.drop("top_p")
    options = request.stream_options
    if options is not None and options.include_obfuscation:
        changes.fields["stream_options"] = msgspec.structs.replace(options, include_obfuscation=None)
        changes.names.append("dropped=stream_options.include_obfuscation")
    _fit_effort(changes, content)
    if dialect == "anthropic":
        _fit_to_anthropic(changes)
    elif dialect == "gemini" and request.seed is not None:
        seed = (request.seed + _SEEDS // 2) % _SEEDS - _SEEDS // 2  # 32 bits are all that fits there
        if seed != request.seed:
            changes.fields["seed"] = seed
            changes.names.append(f"clamped=seed:{seed}")


def _fit_effort(changes: Changes, content: Content) -> None:
    effort = changes.request.reasoning_effort
    if "reasoning" not in changes.model.capabilities or (wants_thought(effort) and not _has_room(changes, content)):
        changes.drop("reasoning_effort")
    elif effort is not None and "thinking_budget" not in changes.target.quirks:
        nearest = _EFFORTS[changes.dialect].get(effort)
        if nearest is not None:
            changes.fields["reasoning_effort"] = nearest
            changes.names.append(f"clamped=reasoning_effort:{nearest}")


def wants_thought(effort: str | None) -> bool:
    return effort not in {None, "none"}


def _has_room(changes: Changes, content: Content) -> bool:
    """Whether the provider would take a budget of thinking with this request, where it takes efforts as budgets."""
    request, target = changes.request, changes.target
    if changes.dialect != "anthropic" or "thinking_budget" not in target.quirks:
        return True
    limit = request.output_limit or changes.model.max_output_tokens
    if limit // 2 < LEAST_BUDGET_TOKENS or _is_call_forced(request):
        return False
    return can_think(request.messages, {call for call, state in content.states.items() if state.maker == target.maker})


def _is_call_forced(request: ChatRequest) -> bool:
    choice = request.tool_choice
    if isinstance(choice, AllowedToolsChoice):
        return choice.allowed_tools.mode == "required"
    return choice == "required" or isinstance(choice, FunctionChoice)


def _fit_to_anthropic(changes: Changes) -> None:
    request = changes.request
    if wants_thought(changes.given("reasoning_effort")):
        for name in ("temperature", "top_p", "top_k"):
            changes.drop(name)  # not with thinking
    temperature = request.temperature
    if temperature is not None and temperature > _ANTHROPIC_TEMPERATURE_MOST and "temperature" not in changes.fields:
        changes.fields["temperature"] = _ANTHROPIC_TEMPERATURE_MOST
        changes.names.append("clamped=temperature:1")
    if request.user is not None:
        changes.drop("safety_identifier")  # One field upstream says who the user is.
    if request.stop is not None:
        stops = [request.stop] if isinstance(request.stop, str) else request.stop
        kept = [stop for stop in stops if stop.strip()]
        if len(kept) < len(stops):
            changes.fields["stop"] = kept or None
            changes.names.append("dropped=stop:blank")
    if request.parallel_tool_calls is False and (not request.tools or request.tool_choice == "none"):
        changes.drop("parallel_tool_calls")  # It is said with the choice of a tool only.
