"""Lists of the console, newest first: a page goes on after the row that ended the one before, whatever was added meanwhile."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest

MOST_DIGITS = 18
"""Of the number of a row; more than a database takes would be its fault and not the reader's."""

Row = TypeVar("Row", bound=Model)


class Page(NamedTuple, Generic[Row]):
    """`older` is what the next page goes on after, None on the last one."""

    rows: list[Row]
    older: int | None
    is_first: bool


def _after_of(request: HttpRequest) -> int | None:
    """The row after which the page of the URL begins. Raises Http404 for what no page has ever named."""
    after = request.GET.get("after", "")
    if not after:
        return None
    if not (after.isascii() and after.isdigit() and len(after) <= MOST_DIGITS):
        raise Http404
    return int(after)


def page_of(request: HttpRequest, rows: QuerySet[Row], most: int) -> Page[Row]:
    """The page of the URL, of at most so many rows. Raises Http404 (see `_after_of`)."""
    after = _after_of(request)
    found = list((rows if after is None else rows.filter(pk__lt=after)).order_by("-pk")[: most + 1])
    return Page(found[:most], found[most - 1].pk if len(found) > most else None, after is None)
