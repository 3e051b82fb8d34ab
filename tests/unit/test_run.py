"""run.py as far as it goes without an installation: what it refuses at once, and what it decides from files."""

import contextlib
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

import run
from tests.architecture.sources import ROOT
from tests.databaseless import EXPRESSIONS


def started(*arguments, **options):
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_a_port_in_use_is_one_line_before_anything_else(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = started("--port", str(taken.getsockname()[1]), cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "--port" in result.stderr


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_cannot_be_is_refused(port):
    assert started("--port", port).returncode == 1


@pytest.mark.parametrize("arguments", [("tset",), ("--workers", "0"), ("--workers", "-2"), ("--help",)])
def test_wrong_usage_is_refused_with_all_commands(arguments):
    result = started(*arguments)
    assert result.returncode == (0 if arguments == ("--help",) else 2)
    for command in ("test", "check", "bench", "manage"):
        assert f"run.py {command} " in result.stderr + result.stdout


def test_a_host_that_cannot_be_is_refused_by_its_own_name():
    result = started("--host", "192.0.2.1")  # of documents only: no machine has it
    assert result.returncode == 1
    assert result.stderr.strip().endswith("Choose another with --host.")


def test_settings_are_found_in_their_files(monkeypatch, tmp_path):
    (tmp_path / "folder").write_text("/srv/state\n")
    environment = {"INFERY_STATE_DIR": "/var/other", "INFERY_STATE_DIR_FILE": str(tmp_path / "folder")}
    assert run._setting("INFERY_STATE_DIR", environment) == "/srv/state"
    assert run._setting("DATABASE_URL", environment) == ""
    assert run._setting("INFERY_STATE_DIR", {"INFERY_STATE_DIR_FILE": "/nowhere"}) == "/nowhere"


def test_port_zero_finds_a_free_one():
    assert 0 < run._free_port("127.0.0.1", 0) < 65536


def test_only_the_loopback_is_answered_by_default():
    assert "ALLOWED_HOSTS" not in run._serving_environment("127.0.0.1")


def test_other_machines_may_use_the_names_of_this_one():
    # In a process of its own: asking for the address of this machine looks like reaching for another one.
    code = "import run; print(run._serving_environment('0.0.0.0')['ALLOWED_HOSTS'])"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    names = output.splitlines()[-1].split(",")
    assert "localhost" in names
    assert socket.gethostname() in names


@pytest.mark.parametrize(("host", "name"), [("10.9.8.7", "10.9.8.7"), ("2001:db8::5", "[2001:db8::5]")])
def test_the_address_that_was_told_is_answered(monkeypatch, host, name):
    monkeypatch.setattr(run, "_own_addresses", lambda: iter(()))
    assert run._serving_environment(host)["ALLOWED_HOSTS"].split(",")[0] == name


def test_hosts_that_were_given_are_left_alone(monkeypatch):
    monkeypatch.setenv("ALLOWED_HOSTS", "gateway.example")
    assert run._serving_environment("0.0.0.0")["ALLOWED_HOSTS"] == "gateway.example"  # noqa: S104 - nothing is bound


def test_only_a_sqlite_file_that_is_there_can_be_known_to_be_prepared(tmp_path):
    assert run._prepared_digest(tmp_path, {}) == ""
    (tmp_path / "gateway.sqlite3").touch()
    assert run._prepared_digest(tmp_path, {}) == run._prepared_digest(tmp_path, {})
    assert run._prepared_digest(tmp_path, {})
    assert run._prepared_digest(tmp_path, {"DATABASE_URL": "postgres://db/name"}) == ""


def test_a_file_that_was_put_back_is_prepared_again(tmp_path):
    def database(*names):
        (tmp_path / "gateway.sqlite3").unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(tmp_path / "gateway.sqlite3")) as connection, connection:
            connection.execute("CREATE TABLE django_migrations (id INTEGER PRIMARY KEY, app TEXT, name TEXT)")
            connection.executemany("INSERT INTO django_migrations (app, name) VALUES ('chat', ?)", [(name,) for name in names])
        return run._prepared_digest(tmp_path, {})

    newest = database("0001", "0002")
    assert database("0001") != newest
    assert database("0001", "0002") == newest
    (tmp_path / "gateway.sqlite3").write_bytes(b"")
    assert run._prepared_digest(tmp_path, {}) != newest


def sleeping():
    return run._child([sys.executable, "-c", "import time; time.sleep(60)"], {}, stop_by=signal.SIGTERM)


def test_a_child_ends_with_the_work_it_was_started_for():
    with sleeping() as child:
        assert child.poll() is None
    assert child.returncode == -signal.SIGTERM


def test_a_child_ends_with_a_failure_too():
    started_at = time.monotonic()
    with pytest.raises(run.Failure), sleeping() as child:
        raise run.Failure("stop")
    assert child.returncode == -signal.SIGTERM
    assert time.monotonic() - started_at < 30


def test_a_step_says_what_and_how_long(capsys):
    with run.step("Counting"):
        pass
    assert capsys.readouterr().out == "Counting ... 0.0 s\n"


def marks(suites):
    return {name: options[options.index("-m") + 1] for name, options in suites.items()}


def ignored(suites):
    return {name: [option[9:] for option in options if option.startswith("--ignore=")] for name, options in suites.items()}


def test_slow_tests_and_on_postgresql_pages_and_bad_input_are_left_out_of_the_short_form_alone():
    whole, short = EXPRESSIONS
    short_form, all_of_it = run._suites([], is_short=True), run._suites([], is_short=False)
    assert marks(short_form) == {"sqlite": "not long and not slow", "postgresql": short}
    assert marks(all_of_it) == {"sqlite": "not long", "postgresql": whole}
    assert ignored(short_form) == {"sqlite": [], "postgresql": ["tests/api", "tests/live/rows"]}
    assert all((run.ROOT / folder).is_dir() for folder in ignored(short_form)["postgresql"])
    assert ignored(all_of_it) == {"sqlite": [], "postgresql": []}


def test_tests_that_are_named_are_run_on_the_engine_that_is_named_or_on_both():
    both = ["tests/unit", "-x"]
    assert run._suites(both, is_short=False) == {"sqlite": both, "postgresql": both}
    for engine in (["--engine", "sqlite"], ["--engine=sqlite"]):
        assert run._suites([*both, *engine], is_short=False) == {"as asked": [*both, *engine]}
