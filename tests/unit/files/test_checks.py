from __future__ import annotations

import pytest
from django.core.management import call_command

from files.sandbox import Protection
from tests.fakes.kept import BEST


def test_the_check_says_what_children_are_kept_in(capsys):
    call_command("check", "--deploy", "--tag", "security")
    said = capsys.readouterr().err
    assert f"is converted by {BEST.engine} with {BEST}." in said


@pytest.mark.parametrize(
    ("is_boxed", "is_fenced", "is_offline", "is_other_user", "said"),
    [
        (True, True, True, True, "a bubblewrap box without files, processes and secrets of this system, no network"),
        (False, True, True, True, "no files of this system and no TCP by Landlock, no network, another user"),
        (False, True, False, False, "no files of this system and no TCP by Landlock"),
        (False, False, False, False, "limits on CPU, memory, output and time"),
    ],
)
def test_a_protection_says_what_it_is(is_boxed, is_fenced, is_offline, is_other_user, said):
    kept = Protection(is_boxed, is_fenced, is_offline, is_other_user, "engine")
    assert str(kept).endswith(said)
    assert str(kept).startswith("limits on CPU")
