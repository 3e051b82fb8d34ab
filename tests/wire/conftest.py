from __future__ import annotations

import pytest

from tests.wire.cases import Case, cases


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-goldens", action="store_true", help="write what the wire suite compares anew, to be reviewed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes a case runs once for each; one that takes a `streamed_case`, for each that has a stream, and so on."""
    for fixture, has_mode in _MODES.items():
        if fixture in metafunc.fixturenames:
            read = [Case(provider, name) for provider, name in cases()]
            chosen = [case for case in read if has_mode(case)]
            metafunc.parametrize(fixture, chosen, ids=[f"{case.folder.parent.name}/{case.folder.name}" for case in chosen])


def _is_whole(case: Case) -> bool:
    return case.reply is not None and case.settings.status == 200


def _is_streamed(case: Case) -> bool:
    return case.sse is not None and case.settings.status == 200


_MODES = {
    "case": lambda _case: True,
    "asking_case": lambda case: case.settings.status == 200,
    "whole_case": _is_whole,
    "streamed_case": _is_streamed,
    "both_ways_case": lambda case: _is_whole(case) and _is_streamed(case),
}


@pytest.fixture(scope="session")
def is_writing(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--write-goldens", default=False))
