"""What of the checkout is ours: read by the tests beside this file."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OWN_PACKAGES = ("infery_site", "chat", "files", "billing")
CODE_FOLDERS = (*OWN_PACKAGES, "benchmarks", "tests")
NOT_OURS = {".venv", ".git", "var", "node_modules", "__pycache__"}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".in", ".yaml", ".yml", ".html", ".css", ".js", ".json", ".sh", ""}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def text_files() -> list[Path]:
    """Every text file of the repository, except caches and what `.gitignore` leaves out."""
    return [
        path
        for path in sorted(ROOT.rglob("*"))
        if path.suffix in TEXT_SUFFIXES
        and not NOT_OURS.intersection(path.relative_to(ROOT).parts)
        and not any(part.endswith("_cache") or part == ".hypothesis" for part in path.relative_to(ROOT).parts)
        and path.is_file()
    ]


@cache
def python_files() -> list[Path]:
    """Python that people write: no migrations."""
    return [path for path in text_files() if path.suffix == ".py" and "migrations" not in path.parts]


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def package(path: Path) -> str:
    """The top folder of a file, or the file itself when it stands at the top."""
    return path.relative_to(ROOT).parts[0]
