"""What is forked is as good as what is started: a process of its own, by the settings of its installation."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.live.gateway import Installation

SHELL = ("manage.py", "shell", "--verbosity", "0", "--command")
TOLD = """
import os, sys
from django.conf import settings
print(os.getpid(), settings.SETTINGS_MODULE, settings.STATE_DIR, sys.argv[:2], __name__)
"""


def test_it_goes_by_the_settings_of_its_installation(hasty: Installation):
    told = [hasty.run(*SHELL, TOLD).split(maxsplit=1) for _ in range(2)]
    assert len({int(pid) for pid, _ in told} | {os.getpid()}) == 3
    assert {rest.strip() for _, rest in told} == {
        f"tests.live.hasty {hasty.folder.resolve()} ['manage.py', 'shell'] django.core.management.commands.shell"
    }


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.exit(3)", ""),
        ("import sys; print('so far'); sys.exit('no further')", "so far\nno further"),
        ("raise LookupError('nothing')", "LookupError: nothing"),
        ("import os; os.kill(os.getpid(), 9)", ""),
    ],
    ids=["by-a-status", "by-a-message", "by-an-exception", "by-a-signal"],
)
def test_a_command_that_fails_is_noticed(hasty: Installation, code: str, told: str):
    with pytest.raises(AssertionError, match="failed:") as caught:
        hasty.run(*SHELL, code)
    assert told in str(caught.value)


def test_a_thread_that_goes_on_is_waited_for(hasty: Installation):
    code = "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('done'))).start()"
    assert hasty.run(*SHELL, code) == "done\n"


def test_a_server_stops_and_is_killed_as_any_other(hasty: Installation):
    with hasty.server() as server:
        assert Path(f"/proc/{server.pid}").exists()
        assert server.stop() == 0
        assert not Path(f"/proc/{server.pid}").exists()
    with hasty.server() as server:
        server.kill()
        assert server.stop() == -signal.SIGKILL
