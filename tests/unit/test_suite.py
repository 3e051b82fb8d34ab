"""The suite's own promises: emptied between tests, on triggers that stay, and cut off from the outside."""

import io
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction

from billing.models import Account, AuditEvent, Entry, Workspace
from chat.models import CatalogModel
from tests.balance import LONG_FILES
from tests.databaseless import EXPRESSIONS, digest
from tests.engine_plugin import EITHER_ENGINE_MODULES
from tests.prepared import PreparedRows
from tests.small_disk import mounted_disk


def triggers():
    names = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
    }
    with connection.cursor() as cursor:
        cursor.execute(names[connection.vendor])
        return {name for (name,) in cursor.fetchall()}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("time", ["first", "second"])
def test_each_transactional_test_finds_an_empty_ledger_with_its_triggers(acme, time):
    """Run twice: the second time after a flush of rows that nobody may delete."""
    assert Workspace.objects.count() == 1
    assert Entry.objects.count() == 1
    assert triggers()
    with pytest.raises(IntegrityError), transaction.atomic():
        Entry.objects.all().delete()
    assert Entry.objects.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("time", ["first", "second"])
def test_a_permission_that_a_test_took_away_is_back_for_the_next(time):
    """Twice as well: permissions are left as they are only where no test has changed them."""
    gone = Permission.objects.filter(codename="grant_credits")
    assert gone.exists()
    gone.delete()


@pytest.mark.django_db
def test_the_three_worlds_are_what_they_are_called(acme, broke, rival):
    available = {
        account.workspace: account.posted_microcredits
        for account in Account.objects.exclude(workspace=None).select_related("workspace")
    }
    assert available == {acme.workspace: 1_000_000_000, broke.workspace: 0, rival.workspace: 1_000_000_000}
    assert len({acme.key_text, broke.key_text, rival.key_text}) == 3


@pytest.mark.django_db(transaction=True)
async def test_database_code_may_run_in_threads(acme):
    assert await sync_to_async(Workspace.objects.count)() == 1


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80), ("gateway.example", 80)])
def test_no_connection_leaves_the_machine(address):
    with pytest.raises(RuntimeError, match="may leave this machine"):
        socket.create_connection(address, timeout=0.01)


def test_the_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass


def test_where_no_disk_can_be_mounted_its_test_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="no disk can be mounted"), mounted_disk(tmp_path, 4096):
        pass


def test_the_files_that_lists_of_the_suite_name_are_there():
    tests = Path(__file__).parents[1]
    assert [name for name in LONG_FILES if not (tests / name).is_file()] == []
    assert [name for name in EITHER_ENGINE_MODULES if not (tests / f"{name}.py").is_file()] == []


def test_files_are_left_out_only_of_the_suite_in_which_they_were_found(tmp_path):
    digests = []
    for path, text in [("conftest.py", ""), ("test_a.py", "a"), ("test_a.py", "b"), ("more/test_a.py", "b")]:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
        digests.append(digest(tmp_path))
    (tmp_path / "test_a.py").rename(tmp_path / "test_b.py")
    assert len({*digests, digest(tmp_path)}) == 5


SMALL_SUITE = {
    "pytest.ini": "[pytest]\ntestpaths = tests\naddopts = -p tests.databaseless\nmarkers =\n    database\n    long\n    slow\n",
    "tests/conftest.py": """
import pytest
from tests import databaseless
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if "of_rows" in item.name:
            item.add_marker(pytest.mark.database)
    databaseless.note(config, items)
""",
    "tests/test_both.py": "def test_of_rows(): ...\ndef test_of_none(): ...\n",
    "tests/test_pure.py": "print('pure was read')\ndef test_of_none(): ...\n",
    "tests/more/test_pure.py": "print('more was read')\ndef test_of_none(): ...\n",
}


@pytest.mark.slow
def test_a_run_of_the_database_reads_no_file_without_it_until_the_suite_changes(tmp_path, request):
    for path, text in SMALL_SUITE.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)

    def read(*arguments):
        command = [sys.executable, "-m", "pytest", "-s", "--collect-only", "-q", "--import-mode=importlib", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(request.config.rootpath)}
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_ADDOPTS"):
            environment.pop(name, None)
        told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return {word for word in ("pure", "more") if f"{word} was read" in told.stdout}, told.stdout.count("::test_of_rows")

    of_database, of_short_form = (("-m", expression) for expression in EXPRESSIONS)
    assert read("tests/test_both.py") == (set(), 1), "which is not the whole suite"
    assert read(*of_database) == ({"pure", "more"}, 1)
    assert read(*of_database) == (set(), 1)
    assert read(*of_short_form) == (set(), 1)
    assert read("-m", "database and not long or not slow") == ({"pure", "more"}, 1), "which asks for others, too"
    assert read() == ({"pure", "more"}, 1)
    assert read(*of_database, "tests/test_pure.py") == ({"pure"}, 0)
    (tmp_path / "tests/more/test_pure.py").write_text("print('more was read')\ndef test_of_rows(): ...\n")
    assert read(*of_database) == ({"pure", "more"}, 2)


@pytest.mark.slow
@pytest.mark.django_db
def test_prepared_rows_are_those_that_were_made():
    models = [*apps.get_app_config("chat").get_models(), AuditEvent]

    def rows():
        """Without what is new each time: the moment of writing, and the keys of rows that nothing refers to."""
        fields = {
            model: [
                field.attname
                for field in model._meta.concrete_fields
                if not (field.primary_key and (model is AuditEvent or hasattr(model, "history_object")))
                and not (getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False))
            ]
            for model in models
        }
        return {model: list(model._base_manager.order_by("pk").values(*fields[model])) for model in models}

    prepared = PreparedRows(
        lambda: call_command("load_catalog", "catalog.yaml", stdout=io.StringIO(), stderr=io.StringIO()), "chat"
    )
    before = rows()
    with transaction.atomic():
        prepared()
        made = rows()
        transaction.set_rollback(True)
    assert rows() == before != made
    prepared()
    assert rows() == made
    CatalogModel.objects.filter(slug="sandbox-echo").update(name="Mine")
    prepared()
    assert CatalogModel.objects.get(slug="sandbox-echo").name == "Sandbox Echo", "where there are rows the command runs"
