"""The bound on what a request can cost, per step of its route (pure).

Tokens are bounded from above without a tokenizer: no byte-level tokenizer makes more tokens than the text has UTF-8
bytes, and each message and tool adds a constant. The model's context window is the ceiling. A dry run answers with the
same quote that an admission holds.
"""

from __future__ import annotations

import msgspec

from billing.pricing import TOKENS_PER_PRICE, PriceList, bound, dearest_output
from chat.adapt import adapt
from chat.errors import ContextLengthExceeded, UnsupportedParameter
from chat.schema.content import Content, Image
from chat.schema.quote import STRETCH_TOKENS, Quote, StepQuote
from chat.schema.request import ChatRequest, JsonSchemaFormat
from chat.schema.route import ModelInfo, Route, Step

TOKENS_PER_MESSAGE = 16
TOKENS_PER_TOOL = 32
TOKENS_PER_REQUEST = 64
INSTRUCTION_TOKENS = 256
IMAGE_TILE_PIXELS = 512
IMAGE_LONG_SIDE_PIXELS = 2048
TOKENS_PER_IMAGE = 1_100
TOKENS_PER_IMAGE_TILE = 260
CERTAIN_BYTES_PER_TOKEN = 8
CLAMP_SHARE = 8
CLAMP_LEAST_TOKENS = 256


def quote(request: ChatRequest, route: Route, content: Content, *, is_strict: bool) -> Quote:
    """A StepQuote for each step.

    Raises ContextLengthExceeded where the text cannot fit by any tokenizer, and under `is_strict` UnsupportedParameter
    where the model asked would need an adaptation.
    """
    asked = route.steps[0].model
    if content.text_bytes > asked.context_window * CERTAIN_BYTES_PER_TOKEN:
        raise ContextLengthExceeded(asked.context_window)
    steps = tuple([_step_quote(request, step, content) for step in route.steps])
    if is_strict and steps[0].adaptations:
        name, _, value = steps[0].adaptations[0].partition("=")
        param = value if name == "dropped" else name
        message = f"The model does not take {param} as it was given, and x-strict forbids to adapt the request."
        raise UnsupportedParameter(param, message)
    return Quote(steps)


def _step_quote(request: ChatRequest, step: Step, content: Content) -> StepQuote:
    model = step.model
    adaptations = adapt(request, content, model, step.targets[0]).changes
    prompt_tokens = _prompt_bound(request, content, model)
    output_tokens = _output_bound(request, model)
    return StepQuote(
        model=model.slug,
        price_version_id=model.prices.version_id,
        prompt_tokens_bound=prompt_tokens,
        output_tokens_bound=output_tokens,
        low_microcredits=_low(content, model.prices),
        bound_microcredits=bound(prompt_tokens, output_tokens, model.prices),
        hold_microcredits=bound(prompt_tokens, _output_held(request, model, output_tokens), model.prices),
        adaptations=adaptations,
    )


def _prompt_bound(request: ChatRequest, content: Content, model: ModelInfo) -> int:
    tokens = content.text_bytes + TOKENS_PER_REQUEST + TOKENS_PER_MESSAGE * len(request.messages)
    if request.tools:
        tokens += TOKENS_PER_TOOL * len(request.tools)
    if request.functions:
        tokens += TOKENS_PER_TOOL * len(request.functions)
    if request.response_format is not None:
        tokens += INSTRUCTION_TOKENS
        if isinstance(request.response_format, JsonSchemaFormat):
            tokens += len(msgspec.json.encode(request.response_format))
    for image in content.images.values():
        tokens += image_tokens_bound(image)
    return min(tokens, model.context_window)


def _output_bound(request: ChatRequest, model: ModelInfo) -> int:
    limit = request.output_limit
    return (model.max_output_tokens if limit is None else limit) * request.choice_count


def _output_held(request: ChatRequest, model: ModelInfo, output_tokens: int) -> int:
    """The output tokens to hold before the step is tried: all, or the first stretch of a stream.

    A model that reasons out of sight cannot be metered by what it sends: its whole bound is held at once.
    """
    if not request.is_stream or "reasoning" in model.capabilities:
        return output_tokens
    return min(output_tokens, STRETCH_TOKENS * request.choice_count)


def clamp(request: ChatRequest, step: Step, prompt_tokens: int, available_microcredits: int) -> int | None:
    """A limit on the output that the credit covers, for a whole answer whose client named none; None if there is no way.

    It spends an eighth of what is available at the most, and is never below 256 tokens.
    """
    if request.is_stream or request.output_limit is not None:
        return None
    prices = step.model.prices
    left = available_microcredits // CLAMP_SHARE - bound(prompt_tokens, 0, prices)
    price = dearest_output(prices)
    if left <= 0 or price == 0:
        return None
    tokens = left * TOKENS_PER_PRICE // price // request.choice_count
    return tokens if tokens >= CLAMP_LEAST_TOKENS else None


def _low(content: Content, prices: PriceList) -> int:
    """What the request costs at the least: an eighth of a token per byte at the cheapest input price, and one token back."""
    cheapest = min(prices.input, prices.cached_input)
    return -(-(content.text_bytes // CERTAIN_BYTES_PER_TOKEN * cheapest + prices.output) // 1_000_000)


def image_tokens_bound(image: Image) -> int:
    """Tokens of an image at its real size: a base and so much per tile of 512 pixels, after scaling into 2,048 x 2,048."""
    longest = max(image.width, image.height, 1)
    scale = min(1.0, IMAGE_LONG_SIDE_PIXELS / longest)
    columns = -(-int(image.width * scale + 1) // IMAGE_TILE_PIXELS)
    rows = -(-int(image.height * scale + 1) // IMAGE_TILE_PIXELS)
    return TOKENS_PER_IMAGE + TOKENS_PER_IMAGE_TILE * columns * rows
