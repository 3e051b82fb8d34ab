"""What was edited on a page that may have been open for long; all else stays as it is now, whoever changed it meanwhile.

The form of what is there already says in one hidden field what it showed (`begun`, a tag of figures). A text that was edited
counts as a whole, a check box for itself. A form that comes without that field, from an older page, counts as it stands. This is
about pages of minutes and hours: it takes no lock, and of two forms in one moment the later wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest

from billing.console.visits import sent

BEGUN = "begun"
# By the names of the fields: texts, and for check boxes the list of those that are checked.
Values = Mapping[str, Any]


def edited(request: HttpRequest, now: Values, *, many: str = "") -> dict[str, Any]:
    """The fields of a form as they are to be. `now` is what the page would show at this moment, `many` the check boxes of it."""
    begun, values = begun_of(request), _sent(request, now, many)
    return values if begun is None else {name: _merged(values[name], begun.get(name), value) for name, value in now.items()}


def begun_of(request: HttpRequest) -> Values | None:
    """What the page showed; None if it does not say so."""
    if BEGUN not in request.POST:
        return None
    try:
        return msgspec.json.decode(request.POST[BEGUN], type=dict[str, str | list[str]])
    except msgspec.DecodeError as error:
        raise SuspiciousOperation("The form does not say what its page showed.") from error


def begun_text(shown: Values) -> str:
    return msgspec.json.encode(shown).decode()


def _sent(request: HttpRequest, now: Values, many: str) -> dict[str, Any]:
    texts: dict[str, Any] = sent(request, *(name for name in now if name != many), BEGUN, many=many)
    del texts[BEGUN]
    return texts | ({many: request.POST.getlist(many)} if many else {})


def _merged(value: Any, begun: Any, now: Any) -> Any:
    """A field that the page did not show is not edited on it."""
    if begun is None:
        return now
    if not isinstance(now, list):
        return now if isinstance(begun, str) and value == begun.strip() else value
    kept = [one for one in now if one in value or one not in begun]
    return kept + [one for one in value if one not in begun and one not in now]
