"""Rules of the code that no linter knows: sizes, names, money, templates."""

import ast
import re

import pytest

from infery_site.logs import ALLOWED_FIELDS
from tests.architecture.sources import CODE_FOLDERS, ROOT, package, python_files, relative, text_files, tree

FILE_LINES = 400
TEST_FILE_LINES = 600
FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc", "tools"}
CHAT_MONEY = {
    f"chat/{name}.py"
    for name in (
        *("admission", "attempts", "cutting", "encode", "meter", "outcome", "pipeline", "quote", "relay"),
        *("schema/quote", "schema/delivery", "catalog/versions"),
        *("loading/dump", "loading/file", "loading/load", "loading/rows"),
    )
}
# The pages of chat show what was booked, and compute none of it.
MONEY = [path for path in python_files() if package(path) == "billing" or relative(path) in CHAT_MONEY]
FLOAT_NAMES = {"FloatField", "Avg", "truediv"}
NO_MONEY = {
    ("billing/idempotency.py", "settings.IDEMPOTENCY_LEASE_S / 3"),
    ("billing/sweeping.py", "settings.LEASE_RENEW_S / 2"),
    ("billing/reports/overview.py", "(now - start) / period.step"),
    ("billing/console/usage.py", "group.first_token_sum_ms / group.first_token_count"),
    ("billing/admin/usage.py", "100 * started / whole"),
    ("billing/admin/usage.py", "100 * took / whole"),
    ("billing/admin/usage.py", "0.5"),
}
"""Times, and the bars of the page that shows how long each step of a request took."""
COUNTS = "billing/limits/"
"""Divides requests, tokens and seconds; there is no money in it."""
TEMPLATES = [path for path in text_files() if path.suffix == ".html"]


def test_the_rules_look_at_the_code():
    """The lists below are not empty by accident."""
    seen = {package(path) for path in python_files()}
    assert seen >= set(CODE_FOLDERS) | {"run.py", "manage.py"}
    assert {relative(path) for path in MONEY} > CHAT_MONEY


def test_files_are_short_enough_to_be_read_at_once():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    limits = {path: TEST_FILE_LINES if package(path) == "tests" else FILE_LINES for path in lengths}
    assert [f"{relative(path)}: {length}" for path, length in lengths.items() if length > limits[path]] == []


def test_functions_are_short():
    long = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES
    ]
    assert long == []


def test_no_module_has_a_name_that_says_nothing():
    named = [relative(path) for path in python_files() if VAGUE_NAMES & {path.stem, *path.relative_to(ROOT).parts[:-1]}]
    assert named == []


def test_there_are_no_signal_handlers():
    """What happens after a write is called by the service function that writes."""
    wired = [
        relative(path) for path in python_files() if re.search(r"@receiver\b|_(?:save|delete)\.connect\(", path.read_text())
    ]
    assert wired == [relative(path) for path in python_files() if path.name == "test_code.py"]


def inexact(module: ast.Module) -> list[ast.AST]:
    """What makes a float: its name, true division, and a literal that is not stored under a name of a time (`_s`, `_at`)."""
    times = {
        id(part)
        for node in ast.walk(module)
        for name, value in named_values(node)
        if name.lower().endswith(("_s", "_at"))
        for part in ast.walk(value)
        if isinstance(part, ast.Constant)
    }
    return [
        node
        for node in ast.walk(module)
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float")
        or (isinstance(node, ast.Attribute) and node.attr in FLOAT_NAMES)
        or (isinstance(node, ast.Name) and node.id in FLOAT_NAMES)
        or (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
        or (isinstance(node, ast.Constant) and isinstance(node.value, float) and id(node) not in times)
    ]


def named_values(node: ast.AST) -> list[tuple[str, ast.expr]]:
    """The values that a statement, a call or a signature gives names."""
    pairs: list[tuple[ast.expr | ast.arg, ast.expr | None]] = []
    match node:
        case ast.Assign():
            pairs = [(target, node.value) for target in node.targets]
        case ast.AnnAssign():
            pairs = [(node.target, node.value)]
        case ast.arguments():
            plain = [*node.posonlyargs, *node.args]
            pairs = [
                *zip(reversed(plain), reversed(node.defaults), strict=False),
                *zip(node.kwonlyargs, node.kw_defaults, strict=True),
            ]
        case ast.keyword():
            return [(node.arg or "", node.value)]
    return [(ast.unparse(target).split(":")[0], value) for target, value in pairs if value is not None]


def test_money_is_never_a_float():
    found = {
        (relative(path), ast.unparse(node)): f"{relative(path)}:{getattr(node, 'lineno', 0)} {ast.unparse(node)}"
        for path in MONEY
        for node in inexact(tree(path))
        if not (relative(path).startswith(COUNTS) and isinstance(node, ast.BinOp | ast.Constant))
    }
    assert [told for place, told in found.items() if place not in NO_MONEY] == []
    assert [place for place in NO_MONEY if place not in found] == []


def test_what_would_make_money_a_float_is_seen():
    module = ast.parse(
        "half = amount / 2\n"
        "amount /= 2\n"
        "price: Final = 0.5\n"
        "charge(float(amount))\n"
        "total = models.FloatField()\n"
        "def cost(tokens, share=0.1, *, wait_s=0.5, rate=1e-6): ...\n"
        "book(amount=1.5, wait_s=1.5)\n"
        "LEAST_S: Final = 0.5\n"
        "self._late_at = 0.0\n"
        "half = amount // 2\n"
    )
    seen = sorted((node.lineno, ast.unparse(node)) for node in inexact(module))
    assert seen == [
        (1, "amount / 2"),
        (2, "amount /= 2"),
        (3, "0.5"),
        (4, "float(amount)"),
        (5, "models.FloatField"),
        (6, "0.1"),
        (6, "1e-06"),
        (7, "1.5"),
    ]


def test_templates_escape_everything():
    unsafe = [
        relative(path) for path in TEMPLATES if re.search(r"\|\s*safe\b|autoescape\s+off", path.read_text(encoding="utf-8"))
    ]
    assert unsafe == []


@pytest.mark.slow
def test_code_marks_nothing_as_safe():
    """Django's format_html escapes what it is given; this would not."""
    marked = [
        f"{relative(path)}:{node.lineno}"
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"mark_safe", "SafeString", "SafeText"}
    ]
    assert marked == []


LOGS = {"log", "logger"}
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def logged(module):
    """Each field that a record of the log is given by its name, with its line."""
    for node in ast.walk(module):
        called = node.func if isinstance(node, ast.Call) else None
        ways = (called.body, called.orelse) if isinstance(called, ast.IfExp) else (called,)
        if not all(isinstance(way, ast.Attribute) and way.attr in LEVELS and ast.unparse(way.value) in LOGS for way in ways):
            continue
        for keyword in node.keywords:
            if keyword.arg == "extra" and isinstance(keyword.value, ast.Dict):
                yield from ((node.lineno, ast.unparse(key or keyword.value).strip("'")) for key in keyword.value.keys)
            elif keyword.arg in {None, "extra"}:
                yield node.lineno, f"**{ast.unparse(keyword.value)}"  # whose fields cannot be seen here
            elif keyword.arg not in {"exc_info", "stack_info"}:
                yield node.lineno, keyword.arg


def test_a_field_that_is_logged_may_be_logged():
    """What is not on the list is left out of the record in silence, and its reader is told that something failed, but not what."""
    fields = {(relative(path), *field) for path in python_files() if package(path) != "tests" for field in logged(tree(path))}
    assert len({name for _, _, name in fields}) > 30
    assert [f"{path}:{line} {name}" for path, line, name in sorted(fields) if name not in ALLOWED_FIELDS] == []


def test_fields_of_the_log_are_found():
    module = ast.parse(
        "log.info('a', one=1)\n"
        "logger.warning('b %s', 1, extra={'two': 2}, exc_info=True)\n"
        "x.log('c', d=4)\n"
        "(log.info if x else log.error)('e', three=3)\n"
        "log.info('f', **more)\n"
        "log.info('g', extra=more)\n"
    )
    assert sorted(logged(module)) == [(1, "one"), (2, "two"), (4, "three"), (5, "**more"), (6, "**more")]


def test_no_folder_of_tests_is_a_package():
    """Files of equal names in several folders stay apart only because they are found by their paths."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [relative(folder) for folder in folders if (folder / "__init__.py").exists()] == []
