"""What is counted of conversions, for `GET /metrics`."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

CONVERSIONS: Final = Counter(
    "gateway_pdf_conversions",
    "Documents that were asked for in a form: made, found where they are kept, refused as unfit, or failed.",
    ["form", "result"],
)
PAGES: Final = Counter("gateway_pdf_pages_converted", "Pages that were converted.", ["form"])
NEW_PAGES: Final = Counter("gateway_pdf_pages_new", "Pages that a workspace used converted for the first time.")
CHILD_SECONDS: Final = Histogram(
    "gateway_sandbox_seconds",
    "How long children took, by their program, whatever came of them.",
    ["program"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
CHILD_FAILURES: Final = Counter(
    "gateway_sandbox_failures", "Children that crashed, met a limit, or could not be started.", ["program", "cause"]
)
