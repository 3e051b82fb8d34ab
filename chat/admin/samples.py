"""What requests of a few sizes would cost at a price: shown beside the price, so that staff see what they set."""

from __future__ import annotations

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from billing.admin.columns import short_credits
from billing.pricing import PriceList, Usage, cost

SAMPLES = (
    ("A short question: 500 tokens in, 200 out", Usage(500, 200), 0),
    ("A long document: 20,000 tokens in, 1,000 out", Usage(20_000, 1_000), 0),
    ("The same, 15,000 of them from cache", Usage(20_000, 1_000, cached_tokens=15_000), 0),
    ("A PDF of 10 pages, converted: 12,000 tokens in, 800 out", Usage(12_000, 800), 10),
)


def sample_costs(prices: PriceList) -> SafeString:
    rows = ((name, short_credits(cost(usage, prices, pdf_pages=pages).total_microcredits)) for name, usage, pages in SAMPLES)
    body = format_html_join("", '<tr><td>{}</td><td class="gw-right">{}</td></tr>', rows)
    head = format_html('<tr><th scope="col">{}</th><th scope="col" class="gw-right">{}</th></tr>', "Request", "Credits")
    return format_html('<table class="gw-table"><thead>{}</thead><tbody>{}</tbody></table>', head, body)
