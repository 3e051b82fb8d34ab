"""Random identifiers: base62 text with at least 128 random bits, and time-ordered ones where an index grows by them."""

from __future__ import annotations

import functools
import os
import re
import time

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TIME_DIGITS = 7
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_DIGIT_OF_BYTE = (ALPHABET * 5)[:256].encode("ascii")
_BYTES_TO_DROP = bytes(range(4 * len(ALPHABET), 256))
_RANDOM_DIGITS = 22
_DRAWN_AT_ONCE = 64
# A child must not use what its parent will.
_drawn: list[str] = []
os.register_at_fork(after_in_child=_drawn.clear)


def base62(number: int, digits: int) -> str:
    """`number` in base 62, zero-padded to `digits`."""
    text = ""
    while number:
        number, remainder = divmod(number, len(_PAIRS))
        text = _PAIRS[remainder] + text
    return text.lstrip("0").rjust(digits, "0")


def random_base62(digits: int) -> str:
    """Uniform random digits: random bytes below 248, which is four times 62, each taken modulo 62."""
    text = b""
    while len(text) < digits:
        text += os.urandom(digits + 8).translate(_DIGIT_OF_BYTE, _BYTES_TO_DROP)
    return text[:digits].decode("ascii")


def public_id(prefix: str) -> str:
    """An identifier shown to people, such as `ws_...`: 131 random bits."""
    return f"{prefix}_{random_base62(_RANDOM_DIGITS)}"


def _random_tail() -> str:
    """Random digits of an id that is no secret: drawn many at a time, because each draw asks the system."""
    try:
        return _drawn.pop()
    except IndexError:
        digits = random_base62(_RANDOM_DIGITS * _DRAWN_AT_ONCE)
        _drawn.extend([digits[start : start + _RANDOM_DIGITS] for start in range(_RANDOM_DIGITS, len(digits), _RANDOM_DIGITS)])
        return digits[:_RANDOM_DIGITS]


def generation_id() -> str:
    """The id of one generation and of its reply: time first, so that rows of one moment are neighbours in an index."""
    return f"chatcmpl-{_moment(time.time_ns() // 1_000_000)}{_random_tail()}"


@functools.lru_cache(maxsize=1)
def _moment(unix_ms: int) -> str:
    return base62(unix_ms, _TIME_DIGITS)


def request_id(offered: str | None) -> str:
    """The caller's label when it is well formed, else one of ours, time first. A label identifies nothing."""
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        return offered
    return f"req-{_moment(time.time_ns() // 1_000_000)}{_random_tail()}"
