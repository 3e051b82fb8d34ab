"""Rules of the refusals: every class of them there is, wherever it stands."""

import importlib
import inspect
import pkgutil
from typing import Any

import billing
import chat
import files
import infery_site
from infery_site.errors import ApiError

PACKAGES = (infery_site, billing, chat, files)
VALUES: dict[str, Any] = {"int": 7, "str": "a", "bytes": b"a"}
WAITING = {429, 503}


def refusals() -> list[type[ApiError]]:
    names = {package.__name__ for package in PACKAGES}
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name:
                importlib.import_module(module.name)
    found: list[type[ApiError]] = []
    unseen: list[type[ApiError]] = [ApiError]
    while unseen:
        for kind in unseen.pop().__subclasses__():
            if kind not in found and kind.__module__.partition(".")[0] in names:
                found.append(kind)
                unseen.append(kind)
    return found


def made(kind: type[ApiError]) -> ApiError:
    """One of this class, of whatever values it must be given."""
    needed = [value for value in inspect.signature(kind).parameters.values() if value.default is value.empty]
    given = {value.name: VALUES[str(value.annotation)] for value in needed}
    positional = [given.pop(value.name) for value in needed if value.kind is not value.KEYWORD_ONLY]
    return kind(*positional, **given)


def test_who_has_to_wait_is_told_how_long():
    """All clients know `Retry-After`; without it each waits as long as it likes."""
    waits = {
        kind.__name__: dict(error.headers).get("retry-after") for kind in refusals() if (error := made(kind)).status in WAITING
    }
    assert len(waits) >= 8
    assert [name for name, wait in waits.items() if wait is None or not 1 <= int(wait) <= 60] == []


def test_a_401_says_what_would_be_accepted():
    silent = [
        kind.__name__
        for kind in refusals()
        if (error := made(kind)).status == 401 and "www-authenticate" not in dict(error.headers)
    ]
    assert silent == []
