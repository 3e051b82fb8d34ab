"""Tests fake the provider's network and the clock, and nothing of ours: a test that replaces our code proves nothing."""

import ast

import pytest

from tests.architecture.sources import OWN_PACKAGES, package, python_files, relative

REPLACING = {"setattr", "delattr", "object", "patch", "setitem"}


def is_ours(module: str | None) -> bool:
    return (module or "").split(".")[0] in OWN_PACKAGES


def imported_from_us(module: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and is_ours(node.module):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names if is_ours(alias.name)}
    return names


def root_name(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def replacements(source: str) -> list[int]:
    """Lines on which something of ours is replaced."""
    module = ast.parse(source)
    ours = imported_from_us(module)
    lines = []
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and node.args:
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            target = node.args[0]
            is_path = isinstance(target, ast.Constant) and isinstance(target.value, str) and is_ours(target.value)
            if name in REPLACING and (is_path or root_name(target) in ours):
                lines.append(node.lineno)
        elif isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            lines += [node.lineno for target in targets if isinstance(target, ast.Attribute) and root_name(target) in ours]
    return lines


def test_nothing_of_ours_is_replaced():
    tests = [path for path in python_files() if package(path) == "tests"]
    assert [f"{relative(path)}:{line}" for path in tests for line in replacements(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "planted",
    [
        "import chat.upstream\nchat.upstream.Upstream = None",
        "from chat import upstream\nmonkeypatch.setattr(upstream, 'Upstream', None)",
        "from chat.upstream import Upstream\nmonkeypatch.setattr(Upstream, 'call', None)",
        "monkeypatch.setattr('billing.limits.Limiter', None)",
        "with patch('billing.limits.Limiter'): pass",
        "from billing import limits\nwith mock.patch.object(limits, 'Limiter'): pass",
        "from billing import limits\nsetattr(limits, 'Limiter', None)",
    ],
)
def test_a_planted_replacement_is_seen(planted):
    assert replacements(planted)


def test_what_is_not_ours_may_be_replaced():
    assert replacements("monkeypatch.setattr('time.monotonic', None)\nmonkeypatch.setenv('A', 'b')\nsettings.A = 1") == []
