"""What may be armed, by whom, and on which passing a process ends. The one that ends is a child."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from infery_site.failpoints import FailpointRefused, arm, reach

CHILD = """
from infery_site.failpoints import arm, reach
arm({text!r}, is_allowed=True)
for number in range(5):
    print(number, flush=True)
    reach("relay.sent")
    reach("ledger.asked")
"""


@pytest.fixture(autouse=True)
def _nothing_stays_armed():
    yield
    arm("", is_allowed=False)


@pytest.mark.parametrize(("text", "passes"), [("relay.sent", 1), ("relay.sent:1", 1), ("ledger.asked:3", 3), ("claim.kept", 0)])
def test_a_process_ends_at_its_point_on_that_passing(text, passes):
    done = subprocess.run([sys.executable, "-c", CHILD.format(text=text)], capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if passes else 0), done.stderr
    assert len(done.stdout.splitlines()) == (passes or 5)


def test_nothing_is_armed_by_an_empty_variable():
    arm("", is_allowed=False)
    reach("relay.sent")


def test_only_a_test_may_arm():
    with pytest.raises(FailpointRefused, match="only a test"):
        arm("relay.sent", is_allowed=False)
    reach("relay.sent")


@pytest.mark.parametrize("text", ["relay", "relay.sent:0", "relay.sent:-1", "relay.sent:x", ":1", "relay.sent:1:2"])
def test_what_names_no_point_is_refused(text):
    with pytest.raises(FailpointRefused, match="must be one of"):
        arm(text, is_allowed=True)
    reach("relay.sent")
