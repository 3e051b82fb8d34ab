#!/usr/bin/env python3
"""Start, test and check the gateway from a bare checkout. Needs Python 3.11 or newer, and nothing else.

    python3 run.py [--host HOST] [--port PORT] [--workers N]    serve; the first start prints a key and a curl line
    python3 run.py test [PYTEST ARGUMENTS]                      the suite on SQLite and PostgreSQL; all of it where CI=true
    python3 run.py check                                        format, lint, types, layers, migrations
    python3 run.py bench [ARGUMENTS]                            the performance budget
    python3 run.py manage COMMAND ...                           manage.py inside the environment

The environment is `.venv` in this checkout, installed from the hashed lock files and left alone until they change.
This file uses the standard library only, and must not import the project: it may run before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
TOOLS = {"pdfinfo": "poppler-utils", "bwrap": "bubblewrap", "redis-server": "redis-server", "cc": "gcc", "chromium": "chromium"}
PYTHON = VENV / "bin" / "python"
MANAGE = ROOT / "manage.py"
LOCKS = {"serve": ROOT / "requirements.txt", "dev": ROOT / "requirements-dev.txt"}
INSTALLER_LOCK = ROOT / "requirements-uv.txt"
LEFT_TO_CI_ON_POSTGRESQL = ["--ignore=tests/api", "--ignore=tests/live/rows"]
OLDEST_PYTHON = (3, 11)
START_LIMIT_S = 60


class Failure(Exception):
    """Ends the run with one message for the person at the terminal."""


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Says what is being done and how long it took. On a terminal the seconds count while it runs."""
    started = time.monotonic()
    is_over = threading.Event()
    is_terminal = sys.stdout.isatty()

    def count() -> None:
        while is_terminal and not is_over.wait(1):
            print(f"\r{title} ... {time.monotonic() - started:.0f} s", end="", flush=True)

    counter = threading.Thread(target=count, daemon=True)
    print(f"{title} ... ", end="", flush=True)
    counter.start()
    try:
        yield
    finally:
        is_over.set()
        counter.join()
        print(f"\r{title} ... " if is_terminal else "", f"{time.monotonic() - started:.1f} s", sep="", flush=True)


def run(command: list[Any], **options: Any) -> tuple[bool, str]:
    """Runs a command quietly; its output and whether it succeeded."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    result = subprocess.run([str(part) for part in command], check=False, **{**streams, **options})
    return result.returncode == 0, result.stdout


# The environment


def ensure_environment(*groups: str) -> None:
    """Installs the groups of LOCKS that are missing or out of date; costs a few file reads when none is."""
    stamps = {group: VENV / f".installed-{group}" for group in groups}
    missing = [group for group, stamp in stamps.items() if _read(stamp) != _digest(group)]
    if not missing:
        return
    with step(f"Installing the packages for {' and '.join(missing)} into {VENV}"):
        _install([argument for group in missing for argument in ("-r", LOCKS[group])])
    for group in missing:
        stamps[group].write_text(_digest(group), encoding="ascii")


def _digest(group: str) -> str:
    return hashlib.sha256(f"{sys.version}\n{LOCKS[group].read_text(encoding='utf-8')}".encode()).hexdigest()


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii") if path.exists() else ""


def _install(locks: list[Any]) -> None:
    """By uv if there is one or it can be installed, else by pip. All of them check every hash."""
    if not PYTHON.exists() or not (VENV / "lib" / f"python3.{sys.version_info[1]}").exists():
        shutil.rmtree(VENV, ignore_errors=True)  # made by another Python, or not to the end
    by_uv = ["pip", "install", "--python", PYTHON, "--require-hashes", *locks]
    uv = shutil.which("uv")
    if uv and run([uv, "venv", "--allow-existing", "--python", sys.executable, VENV])[0] and run([uv, *by_uv])[0]:
        return
    _make_venv()
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    if run([*pip, "-r", INSTALLER_LOCK])[0] and run([VENV / "bin" / "uv", *by_uv])[0]:
        return
    is_installed, output = run([*pip, *locks])
    if not is_installed:
        raise Failure(f"The packages could not be installed.\n{output.strip()[-2000:]}")


def _make_venv() -> None:
    is_made, output = run(make := [sys.executable, "-m", "venv", VENV])
    package = f"python3.{sys.version_info[1]}-venv"  # Debian takes the module apart
    if not is_made and install_system_package(package):
        is_made, output = run(make)
    if not is_made:
        raise Failure(f"{output.strip()[-1000:]}\n{VENV} could not be made. On Debian, first: apt-get install {package}")


def install_system_package(package: str) -> bool:
    """Installs a Debian package when this user may; whether it is there now."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    install = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    quick = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15", "-o", "Acquire::https::Timeout=15"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "SYSTEMD_OFFLINE": "1"}  # installs, starts nothing
    if run([*install, *quick], env=environment)[0]:
        return True
    run(["apt-get", "update", *quick], env=environment)
    return run([*install, *quick], env=environment)[0]


def ensure_test_programs() -> None:
    """What the tests start besides Python's packages; without one, the tests that need it say that they were skipped."""
    for program, package in TOOLS.items():
        if shutil.which(program):
            continue
        with step(f"Installing {package}"):
            is_there = install_system_package(package)
        if not is_there:
            print(f"{package} is not installed; tests that need it are skipped (apt-get install {package}).")


# Serving


def serve(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("\n\n")[1].strip())
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error("--workers must be 1 or more")
    port = _free_port(options.host, options.port)
    ensure_environment("serve")
    environment = _serving_environment(options.host)
    made = _prepare(environment)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.host, options.host)  # noqa: S104 - compared, not bound
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    command = [PYTHON, MANAGE, "serve", "--host", options.host, "--port", port, "--workers", options.workers]
    with _child(command, environment, stop_by=signal.SIGTERM) as server:
        try:
            _wait_until_healthy(server, host, port)
        finally:
            if made or _is_healthy(host, port):  # nothing can show the secrets of a first start again, even if it fails
                text = (ROOT / "welcome.txt").read_text(encoding="utf-8") if made else LATER_START
                print((WELCOME + text).format(address=address, **made), flush=True)
        return server.wait()


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Refuses one that is taken before any time is spent on starting."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address[0], port, *address[2:]))
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        wrong = "host" if isinstance(error, socket.gaierror) or error.args[0] == errno.EADDRNOTAVAIL else "port"
        raise Failure(f"Cannot listen on {host} port {port}: {reason}. Choose another with --{wrong}.") from error


def _serving_environment(host: str) -> dict[str, str]:
    """The caller's environment; for other machines to be answered, the names of this one are added to ALLOWED_HOSTS."""
    environment = dict(os.environ)
    is_told = any(_setting(name, environment) for name in ("ALLOWED_HOSTS", "PUBLIC_URL"))
    if host not in {"127.0.0.1", "localhost", "::1"} and not is_told:
        told = [] if host in {"0.0.0.0", "::"} else [f"[{host}]" if ":" in host else host]  # noqa: S104 - compared, not bound
        names = [*told, "localhost", "127.0.0.1", "[::1]", socket.gethostname(), *_own_addresses()]
        environment["ALLOWED_HOSTS"] = ",".join(dict.fromkeys(names))
        print(f"Answering requests for {environment['ALLOWED_HOSTS']}; set ALLOWED_HOSTS for other names.")
    return environment


def _setting(name: str, environment: dict[str, str]) -> str:
    """As the settings read it; of a file that cannot be read its path, for them to complain about."""
    path = environment.get(f"{name}_FILE", "")
    return Path(path).read_text(encoding="utf-8").strip() if os.access(path, os.R_OK) else path or environment.get(name, "")


def _own_addresses() -> Iterator[str]:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: asks the system which address it would send from
        yield probe.getsockname()[0]


def _prepare(environment: dict[str, str]) -> dict[str, str]:
    """Migrates, and fills an empty database; skipped when nothing changed since. What was made, for the first start."""
    state = Path(_setting("INFERY_STATE_DIR", environment) or ROOT / "var").resolve()
    stamp = state / "prepared"
    if (digest := _prepared_digest(state, environment)) and _read(stamp) == digest:
        return {}
    with step("Preparing the database"):
        is_ready, output = run([PYTHON, MANAGE, "prepare", "--json"], env=environment, stderr=None)
    if not is_ready:
        raise Failure("The database could not be prepared; the reason is above.")
    if digest := _prepared_digest(state, environment):
        stamp.write_text(digest, encoding="ascii")
    return dict(json.loads(output.strip().splitlines()[-1]))


def _prepared_digest(state: Path, environment: dict[str, str]) -> str:
    """Of everything that decides whether there is something to migrate; empty when only the database can tell."""
    if _setting("DATABASE_URL", environment) or not (state / "gateway.sqlite3").exists():
        return ""
    sources = [LOCKS["serve"], *sorted(ROOT.glob("*/migrations/*.py"))]
    return hashlib.sha256(b"".join([path.read_bytes() for path in sources]) + _applied(state / "gateway.sqlite3")).hexdigest()


def _applied(database: Path) -> bytes:
    """The migrations of a file, which may be another than the one that was prepared; nothing if it has none."""
    connected = contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True))
    with contextlib.suppress(sqlite3.Error), connected as rows:
        return repr(rows.execute("SELECT app, name FROM django_migrations ORDER BY id").fetchall()).encode()
    return b""


@contextlib.contextmanager
def _child(command: list[Any], environment: dict[str, str], stop_by: signal.Signals) -> Iterator[subprocess.Popen[bytes]]:
    """A process that never outlives this one. An interrupt stops it gently, a second one at once."""
    # A session of its own: Ctrl-C at the terminal reaches this process only, which passes it on.
    process = subprocess.Popen(
        [str(part) for part in command], env=environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        try:
            process.send_signal(stop_by)
            process.wait()
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_until_healthy(server: subprocess.Popen[bytes], host: str, port: int) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not _is_healthy(host, port):
        if server.poll() is not None:
            raise Failure("The server stopped while starting; its last lines are above.")
        if time.monotonic() > deadline:
            raise Failure(f"The server did not answer within {START_LIMIT_S} s.")
        time.sleep(0.05)


def _is_healthy(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        return b" 200 " in connection.recv(64)
    return False


WELCOME = "\nThe gateway is at {address}/v1, the console at {address}/console/, the staff admin at {address}/admin/. Ctrl-C stops it.\n\n"
LATER_START = "Keys are shown once, when they are made. A new one: python3 run.py manage mint_key Demo\n"


# Tests, checks, benchmarks, commands


def test(arguments: list[str]) -> int:
    """The suite on SQLite, then what touches a database on PostgreSQL; with arguments, exactly those on both."""
    ensure_environment("serve", "dev")
    os.chdir(ROOT)
    if not {"-h", "--help"}.isdisjoint(arguments):
        _become([PYTHON, "-m", "pytest", *arguments])
    ensure_test_programs()
    is_short = not arguments and os.environ.get("CI", "").lower() != "true"
    results = {name: _run_suite(name, options) for name, options in _suites(arguments, is_short=is_short).items()}
    print("", *[f"{name}: {totals}" for name, (_, totals) in results.items()], sep="\n")
    has_passed = all(status == 0 for status, _ in results.values())
    left = " Left out: slow tests and, on PostgreSQL, tests/api and tests/live/rows; CI=true runs all." if is_short else ""
    print(("All tests passed." if has_passed else "Some tests failed; see above.") + left)
    return 0 if has_passed else 1


def _suites(arguments: list[str], *, is_short: bool) -> dict[str, list[str]]:
    """What pytest is told on which engine."""
    if arguments:
        is_engine_chosen = any(argument.split("=")[0] == "--engine" for argument in arguments)
        return {"as asked": arguments} if is_engine_chosen else {"sqlite": arguments, "postgresql": arguments}
    form, left_out = ("not long and not slow", LEFT_TO_CI_ON_POSTGRESQL) if is_short else ("not long", [])
    workers = ["-n", str(min((os.cpu_count() or 1) * 3 // 2, 6)), "--dist", "loadfile"]  # they wait half of the time
    return {"sqlite": [*workers, "-m", form], "postgresql": [*workers, *left_out, "-m", f"database and {form}"]}


def _run_suite(name: str, arguments: list[str]) -> tuple[int, str]:
    """One run of pytest: its exit status and a line of totals."""
    engine = ["--engine", name] if name != "as asked" else []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [PYTHON, "-m", "pytest", f"--junitxml={report}", *engine, *arguments]
        started = time.monotonic()
        with _child(command, dict(os.environ), stop_by=signal.SIGINT) as suite:  # what pytest ends its fixtures by
            status = suite.wait()
        head = report.read_text(encoding="utf-8")[:1000] if report.exists() else ""
    counts = {word: int(count) for word, count in re.findall(r'(tests|failures|errors|skipped)="(\d+)"', head)}
    if not counts:
        return status or 1, f"did not run (pytest exit status {status})"
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    return status, f"{passed} passed, {failed} failed, {counts['skipped']} skipped in {time.monotonic() - started:.0f} s"


def check(arguments: list[str]) -> int:
    """Every check, also after one failed; the output of those that did."""
    if arguments:
        raise Failure("check takes no arguments: it runs every check.")
    ensure_environment("serve", "dev")
    binaries = VENV / "bin"
    checks: dict[str, list[Any]] = {
        "format": [binaries / "ruff", "format", "--check", ROOT],
        "lint": [binaries / "ruff", "check", ROOT],
        "types": [binaries / "mypy"],
        "layers": [binaries / "lint-imports"],
        "migrations": [PYTHON, MANAGE, "makemigrations", "--check", "--dry-run"],
        "django": [PYTHON, MANAGE, "check", "--deploy", "--fail-level", "WARNING"],
    }
    failed = []
    with tempfile.TemporaryDirectory() as state:
        settings = {"INFERY_STATE_DIR": state, "DATABASE_URL": "", "PUBLIC_URL": "https://gateway.example"}
        for name, command in checks.items():
            with step(name):
                is_good, output = run(command, cwd=ROOT, env={**os.environ, **settings})
            if not is_good:
                failed.append(name)
                print(output.rstrip(), end="\n\n")
    print(f"Failed: {', '.join(failed)}." if failed else "All checks passed.")
    return 1 if failed else 0


def bench(arguments: list[str]) -> NoReturn:
    ensure_environment("serve", "dev")
    os.chdir(ROOT)
    _become([PYTHON, "-m", "benchmarks", *arguments])


def manage(arguments: list[str]) -> NoReturn:
    ensure_environment("serve")
    _become([PYTHON, MANAGE, *arguments])


def _become(command: list[Any]) -> NoReturn:
    """Goes on as another program, which gets the signals and gives the exit status."""
    sys.stdout.flush()
    os.execv(str(command[0]), [str(part) for part in command])


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST_PYTHON:
        print(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]} ({sys.executable}).", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):  # like Ctrl-C, so that what was started is stopped, too
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each of the processes to come would compile all modules again
    command = {"test": test, "check": check, "bench": bench, "manage": manage}.get("".join(arguments[:1]))
    try:
        return command(arguments[1:]) if command else serve(arguments)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130 if command else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
