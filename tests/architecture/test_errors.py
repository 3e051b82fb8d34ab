"""Rules of the refusals: every class of them there is, wherever it stands."""

import ast
import importlib
import pkgutil

import billing
import chat
import files
import infery_site
from chat.console.refusals import SPOKEN, list_refusals, refusal_classes, sample_of
from infery_site.drf import ANSWERS
from infery_site.errors import ApiError
from tests.architecture.sources import OWN_PACKAGES, python_files, tree
from tests.architecture.sources import package as package_of

PACKAGES = (infery_site, billing, chat, files)
WAITING = {429, 503}


def refusals() -> list[type[ApiError]]:
    names = {package.__name__ for package in PACKAGES}
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" not in module.name:
                importlib.import_module(module.name)
    return [kind for kind in refusal_classes() if issubclass(kind, ApiError) and kind.__module__.partition(".")[0] in names]


def codes_in_the_code() -> set[str]:
    """What is raised by its code alone: as a code in a call of ApiError or of InvalidRequest, or for a framework's exception."""
    found = {code for _, code, _ in ANSWERS.values()}
    for path in python_files():
        if package_of(path) in OWN_PACKAGES:
            for node in ast.walk(tree(path)):
                if not isinstance(node, ast.Call):
                    continue
                place = {"ApiError": 1, "InvalidRequest": 0}.get(getattr(node.func, "id", ""), len(node.args))
                code = node.args[place] if place < len(node.args) else None
                if isinstance(code, ast.Constant):
                    found.add(str(code.value))
    return found


def test_who_has_to_wait_is_told_how_long():
    """All clients know `Retry-After`; without it each waits as long as it likes."""
    waits = {
        kind.__name__: dict(error.headers).get("retry-after")
        for kind in refusals()
        if (error := sample_of(kind, 7)).status in WAITING
    }
    assert len(waits) >= 8
    assert [name for name, wait in waits.items() if wait is None or not 1 <= int(wait) <= 60] == []


def test_a_401_says_what_would_be_accepted():
    silent = [
        kind.__name__
        for kind in refusals()
        if (error := sample_of(kind)).status == 401 and "www-authenticate" not in dict(error.headers)
    ]
    assert silent == []


def test_every_code_is_documented():
    assert refusals()
    told = {refusal.code for refusal in list_refusals()}
    assert codes_in_the_code() - told == set()
    assert {sample_of(kind).code for kind in refusals()} - told - {"..."} == set()


def test_no_word_is_lost_on_a_code_that_nobody_raises():
    raised = codes_in_the_code() | {sample_of(kind).code for kind in refusals()}
    assert set(SPOKEN) - raised == set()
