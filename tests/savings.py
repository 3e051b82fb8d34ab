"""What libraries do again for each test or client, although it comes out the same: done once in a process of the tests.

Nothing of ours is replaced here, and of what libraries answer only which authorities an HTTP client knows, of a test and of the
servers that it starts, and what Django's test client remembers of a page. A plugin, so that each process of a run has it before
its first test. Garbage is looked for less often, too, so that what a test left open may be told of in a later one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi
import pytest
from django.test import client
from whitenoise.middleware import WhiteNoiseMiddleware

YOUNG_OBJECTS = 20_000


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Thousands of tests stay for the whole run: the collector of garbage need not look at them again and again, nor once."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, 20, 20)
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _work_done_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        few = _few_authorities(tmp_path_factory.mktemp("authorities"))
        patch.setattr(certifi, "where", lambda: str(few))
        patch.setenv("SSL_CERT_FILE", str(few))  # for clients that ask the system, and for servers that are started
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", _once(WhiteNoiseMiddleware.add_files_from_finders))
        patch.setattr(client, "store_rendered_templates", _first_of_each(vars(client)["store_rendered_templates"]))
        yield


def _few_authorities(folder: Path) -> Path:
    """The first authority of certifi's: each HTTP client reads the file, which takes longer than most of the tests.

    No test speaks to a stranger, and those that speak TLS bring the certificate that they trust.
    """
    end = "-----END CERTIFICATE-----\n"
    path = folder / "one.pem"
    path.write_text(Path(certifi.where()).read_text(encoding="ascii").partition(end)[0] + end, encoding="ascii")
    return path


def _once(find: Callable[[WhiteNoiseMiddleware], None]) -> Callable[[WhiteNoiseMiddleware], None]:
    """The static files are the same for all of Django's test clients, each of which makes the middleware anew."""
    found: dict[str, Any] = {}

    def find_once(middleware: WhiteNoiseMiddleware) -> None:
        if not found:
            find(middleware)
            found.update(middleware.files)
        middleware.files.update(found)

    return find_once


def _first_of_each(store: Callable[..., None]) -> Callable[..., None]:
    """Of what each template was given, what it was given first: a page of staff has a thousand small ones, most of them again."""

    def store_first(kept: dict[str, Any], signal: Any, sender: Any, template: Any, context: Any, **options: Any) -> None:
        names: set[str] = kept.setdefault("names", set())
        if template.name not in names:
            names.add(template.name)
            store(kept, signal, sender, template, context, **options)

    return store_first
