from __future__ import annotations

import msgspec
import pytest
from django.core.management import call_command

from tests.fakes.kept import BEST


def test_the_check_says_what_children_are_kept_in(capsys):
    call_command("check", "--deploy", "--tag", "security")
    said = capsys.readouterr().err
    assert f"is converted by {BEST.engine} with {BEST}." in said


@pytest.mark.parametrize(
    ("is_boxed", "is_offline", "is_other_user", "said"),
    [
        (True, True, True, "a bubblewrap box without files, processes and secrets of this system, no network"),
        (False, True, True, "no network, another user"),
        (False, False, False, "limits on CPU, memory, output and time"),
    ],
)
def test_a_protection_says_what_it_is(is_boxed, is_offline, is_other_user, said):
    kept = msgspec.structs.replace(BEST, is_boxed=is_boxed, is_offline=is_offline, is_other_user=is_other_user)
    assert str(kept).endswith(said)
    assert str(kept).startswith("limits on CPU")
