"""Rules of the code that no linter knows: sizes, names, money, templates."""

import ast
import re

from tests.architecture.sources import CODE_FOLDERS, ROOT, package, python_files, relative, text_files, tree

FILE_LINES = 400
TEST_FILE_LINES = 600
FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "misc", "tools"}
MONEY = [path for path in python_files() if package(path) == "billing"]
TEMPLATES = [path for path in text_files() if path.suffix == ".html"]


def test_the_rules_look_at_the_code():
    """The lists below are not empty by accident."""
    seen = {package(path) for path in python_files()}
    assert seen >= set(CODE_FOLDERS) | {"run.py", "manage.py"}
    assert MONEY


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


def test_money_is_never_a_float():
    floats = [
        f"{relative(path)}:{node.lineno}"
        for path in MONEY
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float")
        or (isinstance(node, ast.Attribute) and node.attr == "FloatField")
        or (isinstance(node, ast.Name) and node.id == "FloatField")
    ]
    assert floats == []


def test_templates_escape_everything():
    unsafe = [
        relative(path) for path in TEMPLATES if re.search(r"\|\s*safe\b|autoescape\s+off", path.read_text(encoding="utf-8"))
    ]
    assert unsafe == []


def test_code_marks_nothing_as_safe():
    """Django's format_html escapes what it is given; this would not."""
    marked = [
        f"{relative(path)}:{node.lineno}"
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {"mark_safe", "SafeString", "SafeText"}
    ]
    assert marked == []


def test_no_folder_of_tests_is_a_package():
    """Files of equal names in several folders stay apart only because they are found by their paths."""
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert [relative(folder) for folder in folders if (folder / "__init__.py").exists()] == []
