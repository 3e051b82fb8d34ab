"""Rules of every text in the repository: nothing of one machine, no addresses in lock files, nothing put off."""

import re

import pytest

from tests.architecture.sources import ROOT, relative, text_files

# Written with brackets, so that this file does not match itself.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w.~])/(?:[w]ork|[r]oot|[h]ome|[U]sers)/\w",
    "a package registry": r"[p]ypi\.org|[p]ythonhosted|[n]pmjs|[p]roxy\.golang",
    "work that was put off": r"\b[T]ODO\b|\b[F]IXME\b|\b[X]XX\b|\b[f]or now\b",
    "a mark of an unfinished merge": r"^(?:[<]{7}|[>]{7}) ",
    "a private key": r"[B]EGIN (?:RSA |EC |OPENSSH )?PRIVATE KEY",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_text_has(what):
    pattern = re.compile(FORBIDDEN[what], re.MULTILINE)
    texts = {relative(path): path.read_text(encoding="utf-8") for path in text_files()}
    assert [f"{name}: {match[0]}" for name, text in texts.items() if (match := pattern.search(text))] == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=relative)
def test_lock_files_name_no_address_and_hash_every_package(path):
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert "index" not in text
    packages = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert packages
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []


@pytest.mark.parametrize("name", ["requirements", "requirements-dev", "requirements-uv"])
def test_every_wish_is_in_its_lock_file(name):
    wishes = (ROOT / f"{name}.in").read_text(encoding="utf-8")
    locked = (ROOT / f"{name}.txt").read_text(encoding="utf-8").lower()
    wanted = re.findall(r"^([A-Za-z][A-Za-z0-9._-]*)", wishes, re.MULTILINE)
    assert wanted
    assert [one for one in wanted if f"\n{one.lower()}" not in locked] == []
