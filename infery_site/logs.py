"""Log records as lines of JSON on stderr, for our own loggers and for every library's.

What may be in a record is a list, not a habit: the fields of `ALLOWED_FIELDS`, scalars only, and the places of an
exception without its text, because the text of an exception may quote a prompt. Keys are masked in everything that is
written, also in messages of libraries.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

Event = MutableMapping[str, Any]
ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]

ALLOWED_FIELDS = frozenset(
    {
        *("timestamp", "level", "logger", "event", "exception", "request_id", "generation", "workspace", "api_key_id"),
        *("method", "route", "status", "code", "end_state", "latency_ms", "first_token_ms", "is_stream"),
        *("model", "model_used", "provider", "target", "attempt", "fallback_depth", "upstream_status", "cause"),
        *("host", "port", "workers", "pid", "engine", "count", "duration_ms", "setting", "command", "path"),
        *("amount_microcredits", "overrun_microcredits", "batch_size", "failed", "limit", "version", "stack"),
        *("account", "accounts", "payment", "endpoint", "file", "about", "units", "currency", "size_bytes"),
        *("chore", "check", "subject", "source", "act", "saved_path", "processes", "memory_bytes"),
        *("open_count", "past_count", "left_s", "ahead_s", "unwatched_s"),
    }
)
TEXT_LIMIT = 8000
EXCEPTION_FRAMES = 20
EXCEPTION_LINES = 60

_SECRETS = re.compile(
    r"""
      \binf_[0-9A-Za-z]{6,}                                            # keys of this gateway
    | \bsk-[0-9A-Za-z_-]{8,}                                           # OpenAI, Anthropic and many compatible servers
    | \bAIza[0-9A-Za-z_-]{20,}                                         # Google
    | \b(?:gsk|xai|pplx|hf|r8|nvapi)[_-][0-9A-Za-z_-]{8,}              # other providers
    | (?<=bearer\s)[^\s"',;]{6,}
    | (?<=key=)[^\s&"',;]{6,}
    | (?<=token=)[^\s&"',;]{6,}
    | (?<=://)[^\s/@:]*:[^\s/@]+(?=@)                                  # user and password in an address
    """,
    re.VERBOSE | re.IGNORECASE,
)


def redact(text: str) -> str:
    """The text with everything that looks like a secret masked."""
    return _SECRETS.sub("[redacted]", text)


def keep_allowed_fields(_logger: object, _method: str, event: Event) -> Event:
    """Drops what is not on the list, and writes what is: numbers as they are, anything else as masked, shortened text."""
    return {name: _safe(value) for name, value in event.items() if name in ALLOWED_FIELDS}


def _safe(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return [_safe(item) for item in value]
    return redact(str(value)[:TEXT_LIMIT])


def exception_places(exc_info: ExceptionInfo) -> str:
    """The types and places of an exception and of its causes, innermost frame last; never their text."""
    lines: list[str] = []
    current: BaseException | None = exc_info[1]
    while current is not None and len(lines) < EXCEPTION_LINES:
        lines.append(type(current).__qualname__)
        frames = traceback.extract_tb(current.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-EXCEPTION_FRAMES:]]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n".join(lines)


_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(level: str) -> dict[str, Any]:
    """Sets structlog up, and returns Django's LOGGING setting for the same output."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": json_formatter}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Django would add handlers of its own, one of which writes mails.
            "django": {"handlers": [], "level": level, "propagate": True},
            # A refused Host is the caller's fault and is answered; it is not an alarm.
            "django.security.DisallowedHost": {"handlers": [], "level": "CRITICAL"},
            # 4xx are answers, not events.
            "django.request": {"level": "ERROR"},
            "uvicorn": {"level": "WARNING"},
            # It would tell of each look for tasks.
            "django_tasks": {"level": "WARNING"},
            "django_tasks_db": {"level": "WARNING"},
            # It would write whole addresses, with what is in their query.
            "httpx": {"level": "WARNING"},
        },
    }


def json_formatter() -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder(allow=ALLOWED_FIELDS)],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(exception_places),
            keep_allowed_fields,
            structlog.processors.JSONRenderer(),
        ],
    )
