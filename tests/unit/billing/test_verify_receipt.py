"""`manage.py verify_receipt`, with the files a customer would have."""

import io
import json
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.core.management import CommandError, call_command

from billing import receipts

CONTENT = {
    "object": "receipt",
    "id": "chatcmpl-1",
    "workspace_id": "ws_1",
    "created_at": "2026-03-10T12:00:00.000000Z",
    "lines": [],
    "credits_used": Decimal("0.1475"),
}
OTHER_SEED = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


def run(*arguments):
    """The exit status, and what was printed."""
    output = io.StringIO()
    try:
        call_command("verify_receipt", *map(str, arguments), stdout=output)
    except SystemExit as error:
        return error.code, output.getvalue()
    return 0, output.getvalue()


def written(path, value):
    path.write_text(json.dumps(value, default=float, indent=2), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return written(tmp_path / "receipt.json", receipts.signed(CONTENT))


@pytest.fixture
def keys(tmp_path):
    return written(tmp_path / "keys.json", receipts.key_set())


VALID = "Valid: generation chatcmpl-1 of workspace ws_1 at 2026-03-10T12:00:00.000000Z, 0.1475 credits.\n"


def test_a_receipt_of_ours_is_valid(file):
    assert run(file) == (0, VALID)


def test_a_list_of_keys_is_enough_anywhere(file, keys, settings):
    settings.RECEIPT_SIGNING_KEYS = [OTHER_SEED]
    assert run(file, "--keys", keys) == (0, VALID)
    status, output = run(file)
    assert status == 1
    assert output.startswith("NOT VALID: it names the key '")


def test_a_receipt_may_come_from_standard_input(file, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(file.read_bytes())))
    assert run("-") == (0, VALID)


def test_a_changed_receipt_is_not_valid(file):
    file.write_text(file.read_text().replace("0.1475", "0.1474"))
    assert run(file) == (1, "NOT VALID: its signature does not match its content: one of the two was changed.\n")


@pytest.mark.parametrize(("text", "reason"), [("", "not a JSON text"), ("{}", "not a receipt"), ("[1]", "not a receipt")])
def test_another_file_is_not_valid(tmp_path, text, reason):
    other = tmp_path / "other"
    other.write_text(text)
    status, output = run(other)
    assert status == 1
    assert output == f"NOT VALID: it is {reason}.\n"


def test_files_that_cannot_be_used_are_named(file, tmp_path):
    for arguments, reason in [
        ([tmp_path / "missing"], "missing cannot be read"),
        ([tmp_path], "cannot be read"),
        ([file, "--keys", tmp_path / "missing"], "missing cannot be read"),
        ([file, "--keys", file], "receipt.json cannot be used: it is not a JSON Web Key Set"),
    ]:
        with pytest.raises(CommandError, match=reason):
            run(*arguments)
    (tmp_path / "large").write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(CommandError, match="larger"):
        run(tmp_path / "large")
