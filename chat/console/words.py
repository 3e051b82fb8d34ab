"""What codes of a request mean, in sentences for people: how it ended, what that costs, what was adapted, why one moved on."""

from __future__ import annotations

from chat.schema.delivery import EndState

# The word of the badge, and what happened and what is charged for it.
ENDS: dict[EndState, tuple[str, str]] = {
    EndState.DONE: ("Done", "The model finished its answer; what it used is charged."),
    EndState.LENGTH: ("Output limit", "The answer reached the limit on its length; what was used is charged."),
    EndState.REFUSED: ("Refused", "The request could not be served as it was sent. Nothing is charged."),
    EndState.FAILED: ("Failed", "No provider gave an answer. Failed attempts are free, so nothing is charged."),
    EndState.ERROR: ("Error", "An error ended the stream after it had begun; what was delivered until then is charged."),
    EndState.CUT: ("Cut", "The provider broke off the stream; what was delivered until then is charged."),
    EndState.OUT_OF_CREDIT: ("Out of credit", "The credit did not cover more of the answer; what was delivered is charged."),
    EndState.CLIENT_GONE: ("Client gone", "The caller left, so the provider was stopped; what was delivered is charged."),
    EndState.REVOKED: ("Key ended", "The key was revoked or expired meanwhile; what was delivered is charged."),
    EndState.DRAINED: ("Drained", "The server was restarted; what was delivered is charged."),
    EndState.DRY_RUN: ("Dry run", "Only the price was asked for. Nothing is charged."),
    EndState.REPLAYED: ("Replayed", "A kept answer of the same Idempotency-Key was sent again. Nothing is charged."),
}
# In the order in which a stream's endings are shown.
STREAM_ENDS = (EndState.DONE, EndState.LENGTH, EndState.CUT, EndState.OUT_OF_CREDIT, EndState.CLIENT_GONE, EndState.DRAINED)

_ADAPTATIONS = {
    "ignored": "Not a known field, so it was not forwarded. x-strict: true would refuse it.",
    "dropped": "The model that served does not take it.",
    "clamped": "The model that served, or the credit, allows no more.",
    "pdf": "The model does not read PDFs: it got the text, and where it sees, images of the pages.",
    "response_format": "The model has no JSON mode of its own: the format was asked for in another way.",
    "image": "The image was converted to a format that the provider takes.",
}
_OTHER = "What was sent was changed so that the model could take it."

RECEIPT_LINES = {
    "input": "Input tokens",
    "cached_input": "Cached input",
    "cache_write": "Cache writes",
    "audio_input": "Audio input",
    "output": "Output tokens",
    "reasoning": "Reasoning tokens",
    "pdf_page": "PDF pages converted",
    "rounding": "Rounding",
    "overrun": "Beyond what was held",
}


def adaptation(text: str) -> str:
    return _ADAPTATIONS.get(text.partition("=")[0], _OTHER)


def why(result: str, status: int | None, *, moves: str) -> str:
    """What the failure of an attempt led to. `moves` is the model of the next attempt, empty if there was none."""
    cause = f"The provider answered {status}" if status else f"The attempt failed: {result.replace('_', ' ')}"
    return f"{cause}, so {moves} was tried next." if moves else f"{cause}, and there was nobody left to try."
