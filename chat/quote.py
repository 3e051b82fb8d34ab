"""The bound on what a request can cost, per step of its route (pure).

Tokens are bounded from above without a tokenizer: no byte-level tokenizer makes more tokens than the text has UTF-8
bytes, and each message and tool adds a constant. The model's context window is the ceiling. A dry run answers with the
same quote that an admission holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from billing.pricing import TOKENS_PER_PRICE, PriceList, bound, dearest_output
from chat.adapt import adapt, is_converting, spoken, wants_thought
from chat.errors import ContextLengthExceeded, UnsupportedParameter
from chat.schema.content import Content
from chat.schema.quote import STRETCH_TOKENS, Adapted, Limit, Quote, StepQuote, Verdict
from chat.schema.request import ChatRequest, JsonSchemaFormat
from chat.schema.route import ModelInfo, Route, Step, TargetInfo

TOKENS_PER_MESSAGE = 16
TOKENS_PER_TOOL = 32
TOKENS_OF_TOOL_USE = 640  # the instructions that a provider adds itself: 530 at the most of those that say so
TOKENS_PER_REQUEST = 64
INSTRUCTION_TOKENS = 256
TOKENS_PER_AUDIO_SECOND = 40  # a provider that says so counts 32
CERTAIN_BYTES_PER_TOKEN = 8
BYTES_PER_ESTIMATED_TOKEN = 4
TOKENS_PER_NATIVE_PAGE = 16_384  # a dense page has some two thousand of text, and what providers count for its image
ESTIMATED_TOKENS_PER_NATIVE_PAGE = 2_048
CLAMP_SHARE = 8
_CALM = {"anthropic"}
_CALM_IF_TOLD = {"anthropic", "openai"}
CLAMP_LEAST_TOKENS = 256
_STRICT_CHANGES = frozenset({"dropped=messages.reasoning_content"})
"""What is changed under `x-strict` too, and named: a client replays an answer as it got it from here, reasoning and all."""


def is_too_long(content: Content, model: ModelInfo) -> bool:
    """Whether the text is longer than the model's context window by any tokenizer."""
    return content.text_bytes + _converted_bytes(content, model) > model.context_window * CERTAIN_BYTES_PER_TOKEN


def fitting(request: ChatRequest, route: Route, content: Content, *, is_strict: bool) -> Route:
    """The route without the targets that cannot be given the request, and without the steps that then have none.

    Under `is_strict` that is every target for which more than replayed reasoning would have to be changed. Raises
    UnsupportedParameter where the model asked has none left. Where there is one target only, `quote` is who meets its refusal.
    """
    if not is_strict and len(route.steps) == 1 and len(route.steps[0].targets) == 1:
        return route
    steps, depths = [], []
    for step, depth in zip(route.steps, route.depths, strict=True):
        refusals = [_refusal(request, content, step.model, target, is_strict=is_strict) for target in step.targets]
        targets = tuple([target for target, refusal in zip(step.targets, refusals, strict=True) if refusal is None])
        if targets:
            steps.append(Step(step.model, targets))
            depths.append(depth)
        elif not steps and refusals[0] is not None:
            raise refusals[0]
    return Route(route.model_asked, tuple(steps), tuple(depths))


def _refusal(
    request: ChatRequest, content: Content, model: ModelInfo, target: TargetInfo, *, is_strict: bool
) -> UnsupportedParameter | None:
    try:
        changes = adapt(request, content, model, target).changes
    except UnsupportedParameter as refusal:
        return refusal
    forbidden = next((change for change in changes if change not in _STRICT_CHANGES), None)
    if forbidden is None or not is_strict:
        return None
    name, _, value = forbidden.partition("=")
    param = value.partition(":")[0] if name in {"dropped", "clamped"} else name
    message = f"The model does not take {param} as it was given, and x-strict forbids to adapt the request."
    return UnsupportedParameter(param, message)


def quote(request: ChatRequest, route: Route, content: Content, *, clamp_tokens: int | None = None) -> Quote:
    """A StepQuote for each step. `clamp_tokens` is our own limit on each choice; a step whose model has a lower one keeps that.

    Raises ContextLengthExceeded where the text cannot fit by any tokenizer, unless a model of the chain may take over.
    """
    asked = route.steps[0].model
    if is_too_long(content, asked) and not (
        asked.has_context_fallback and any(not is_too_long(content, step.model) for step in route.steps)
    ):
        raise ContextLengthExceeded(asked.context_window)
    return Quote(tuple([_step_quote(request, step, content, clamp_tokens) for step in route.steps]))


def shortened(
    request: ChatRequest, route: Route, content: Content, quoted: Quote, available_microcredits: int, *, is_strict: bool
) -> Quote | None:
    """The quote with a limit on the output that `available_microcredits` covers; None if there is no way, as under `is_strict`.

    Both an admission that was refused and a dry run find here what is held instead. Each one is shorter than the one before.
    """
    if is_strict:
        return None
    first = quoted.steps[0]
    step, tokens = route.steps[0], first.prompt_tokens_bound
    limit = clamp(request, step, tokens, available_microcredits, pdf_pages=first.pdf_pages)
    if limit is None or limit >= (first.clamp_tokens or route.steps[0].model.max_output_tokens):
        return None
    return quote(request, route, content, clamp_tokens=limit)


def judged(
    request: ChatRequest, route: Route, content: Content, quoted: Quote, limits: Sequence[Limit], *, is_strict: bool
) -> Verdict:
    """What would be held within `limits`, in the order in which the ledger asks them: as an admission does it, without one."""
    while True:
        hold_microcredits = quoted.steps[0].hold_microcredits
        short = next((limit for limit in limits if hold_microcredits > limit.available_microcredits), None)
        if short is None:
            return Verdict(quoted)
        available_microcredits = max(short.available_microcredits, 0)
        shorter = shortened(request, route, content, quoted, available_microcredits, is_strict=is_strict)
        if shorter is None:
            return Verdict(quoted, short.code)
        quoted = shorter


def _step_quote(request: ChatRequest, step: Step, content: Content, clamp_tokens: int | None) -> StepQuote:
    model = step.model
    adapted = adapt(request, content, model, step.targets[0])
    limit = None if clamp_tokens is None else min(clamp_tokens, model.max_output_tokens)
    prompt_tokens = _prompt_bound(request, content, model)
    output_tokens = _output_bound(request, model, limit)
    held_tokens = _output_held(request, step, output_tokens)
    pdf_pages = _fee_pages(content, model)
    is_open = bool(content.documents) and not is_converting(content, model)
    bounds = StepQuote(
        model=model.slug,
        price_version_id=model.prices.version_id,
        prompt_tokens_bound=prompt_tokens,
        output_tokens_bound=output_tokens,
        low_microcredits=_low(content, model.prices),
        bound_microcredits=bound(prompt_tokens, output_tokens, model.prices, pdf_pages=pdf_pages),
        hold_microcredits=bound(prompt_tokens, held_tokens, model.prices, pdf_pages=pdf_pages),
        adaptations=adapted.changes,
        prompt_tokens_estimate=min(_prompt_estimate(request, content, model), prompt_tokens),
        clamp_tokens=limit,
        prompt_tokens_beyond=model.context_window - prompt_tokens if is_open else 0,
        pdf_pages=pdf_pages,
        choice_count=request.choice_count,
        adapted=_kept(adapted, content, model),
    )
    if limit is None:
        return bounds
    limited = adapt(bounds.limited(request), content, model, step.targets[0])
    return msgspec.structs.replace(bounds, adaptations=bounds.clamps + limited.changes, adapted=_kept(limited, content, model))


def _kept(adapted: Adapted, content: Content, model: ModelInfo) -> Adapted | None:
    """None where converted documents are in it, whose text may be long: they are made anew for the model that is tried."""
    return None if is_converting(content, model) else adapted


def _prompt_bound(request: ChatRequest, content: Content, model: ModelInfo) -> int:
    tokens = content.text_bytes + TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE * len(request.messages)
    tool_count = len(request.tools or ()) + len(request.functions or ())
    if tool_count or isinstance(request.response_format, JsonSchemaFormat):  # which may be asked for as a tool
        tokens += TOKENS_OF_TOOL_USE + TOKENS_PER_TOOL * tool_count
    if request.response_format is not None:
        tokens += INSTRUCTION_TOKENS
        tokens += _schema_bytes(request)
    if not content.is_text_only:
        tokens += _converted_bytes(content, model) + _page_tokens(content, model, TOKENS_PER_NATIVE_PAGE)
        tokens += _media_tokens(content, model)
    return min(tokens, model.context_window)


def _prompt_estimate(request: ChatRequest, content: Content, model: ModelInfo) -> int:
    """What the prompt probably has: a quarter of a token per byte, and the media by the rule of their bound."""
    sizes = (content.text_bytes, _schema_bytes(request), _converted_bytes(content, model))
    text = sum([-(-size_bytes // BYTES_PER_ESTIMATED_TOKEN) for size_bytes in sizes])
    if content.is_text_only:
        return text
    return text + _media_tokens(content, model) + _page_tokens(content, model, ESTIMATED_TOKENS_PER_NATIVE_PAGE)


def _converted_bytes(content: Content, model: ModelInfo) -> int:
    """The text of the documents, where `model` gets it in their place."""
    if not is_converting(content, model):
        return 0
    return sum([len(spoken(document).encode()) for document in content.documents.values()])


def _page_tokens(content: Content, model: ModelInfo, native_tokens: int) -> int:
    """Tokens of the pages of the documents: so many of each that the model reads itself, or those of their images."""
    pages = [size for document in content.documents.values() for size in document.page_sizes]
    if not is_converting(content, model):
        return native_tokens * len(pages)
    return sum(itertools.starmap(model.image_tokens.bound, pages)) if "vision" in model.capabilities else 0


def _fee_pages(content: Content, model: ModelInfo) -> int:
    """Pages that would be converted for `model` and were not paid before: the most that have a fee."""
    if not is_converting(content, model):
        return 0
    return sum([len(document.page_sizes) for document in content.documents.values() if not document.is_converted])


def _schema_bytes(request: ChatRequest) -> int:
    wanted = request.response_format
    return len(msgspec.json.encode(wanted)) if isinstance(wanted, JsonSchemaFormat) else 0


def _media_tokens(content: Content, model: ModelInfo) -> int:
    """Tokens of images at their real sizes, by the rule of the model, and of audio by its length."""
    images = sum([model.image_tokens.bound(image.width, image.height) for image in content.images.values()])
    return images + sum([TOKENS_PER_AUDIO_SECOND * (audio.duration_s + 1) for audio in content.audio.values()])


def _output_bound(request: ChatRequest, model: ModelInfo, clamp_tokens: int | None) -> int:
    limit = request.output_limit or clamp_tokens or model.max_output_tokens
    return limit * request.choice_count


def _output_held(request: ChatRequest, step: Step, output_tokens: int) -> int:
    """The output tokens to hold before the step is tried: all, or the first stretch of a stream that is metered."""
    if not _is_metered(request, step):
        return output_tokens
    return min(output_tokens, STRETCH_TOKENS * request.choice_count)


def _is_metered(request: ChatRequest, step: Step) -> bool:
    """Whether what is sent tells how much is used: of a stream, but not where a model may reason out of sight.

    Anthropic's do not unless they are asked to, and OpenAI's do not where they are told not to.
    """
    if not request.stream:
        return False
    if "reasoning" not in step.model.capabilities:
        return True
    if wants_thought(request.reasoning_effort):
        return False
    calm = _CALM_IF_TOLD if request.reasoning_effort else _CALM
    return all(target.provider.dialect in calm for target in step.targets)


def clamp(
    request: ChatRequest, step: Step, prompt_tokens: int, available_microcredits: int, *, pdf_pages: int = 0
) -> int | None:
    """A limit on the output that the credit covers, where the client named none; None if there is no way.

    A stream that is metered needs none.

    The output costs an eighth of what is available at the most, and no more than the prompt and its pages leave of it; the
    limit is never below 256 tokens.
    """
    if request.output_limit is not None or _is_metered(request, step):
        return None
    prices = step.model.prices
    prompt = bound(prompt_tokens, 0, prices, pdf_pages=pdf_pages)
    left = min(available_microcredits // CLAMP_SHARE, available_microcredits - prompt)
    price = dearest_output(prices)
    if left <= 0 or price == 0:
        return None
    tokens = min(left * TOKENS_PER_PRICE // price // request.choice_count, step.model.max_output_tokens)
    return tokens if tokens >= CLAMP_LEAST_TOKENS else None


def _low(content: Content, prices: PriceList) -> int:
    """What the request costs at the least: an eighth of a token per byte at the cheapest input price, and one token back."""
    cheapest = min(prices.input, prices.cached_input)
    return -(-(content.text_bytes // CERTAIN_BYTES_PER_TOKEN * cheapest + prices.output) // 1_000_000)
