"""Points by name at which a crash test ends the process, as `kill -9` does it: nothing is flushed, nothing is closed.

INFERY_FAILPOINT says where, and on which passing: `ledger.written`, or `ledger.written:2` for the second. Every process refuses
to start with it unless its settings say that it is a test's (`ARE_FAILPOINTS_ALLOWED`), so that no variable left behind can
end a gateway that serves. Where nothing is armed, a point is a look at an empty dictionary.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "INFERY_FAILPOINT"

POINTS = {
    "ledger.asked": "operations have gathered, nothing of them is written",
    "ledger.written": "they are committed, and nobody has been told",
    "attempt.called": "the call counts, the provider has seen nothing of it",
    "attempt.answered": "a whole answer or the first chunk of a stream is there, and nobody knows",
    "relay.sent": "a batch of a stream is on its way to the client",
    "claim.keeping": "the answer is booked, and not kept for a repeat",
    "claim.kept": "it is kept, and its last bytes were not sent",
    "create.keeping": "what a POST creates is made, its answer is not kept, and neither is committed",
    "create.kept": "both are, and nobody has been told",
    "files.pending": "the row of a file is there, its bytes are not",
    "files.stored": "its bytes are there, its row does not say so",
    "files.kept": "its row says so, and the answer is kept for a repeat",
    "files.ended": "a file is deleted, its bytes are there",
}

_passes_left: dict[str, int] = {}


class FailpointRefused(Exception):
    """The variable is set where it must not be, or names no point."""


def reach(point: str) -> None:
    """The process is at this point. It ends here if a test says so."""
    if point in _passes_left:
        _passes_left[point] -= 1
        if not _passes_left[point]:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(text: str, *, is_allowed: bool) -> None:
    """Take what the variable says; nothing is armed where it is empty. Raises FailpointRefused."""
    _passes_left.clear()
    if not text:
        return
    if not is_allowed:
        raise FailpointRefused(f"{VARIABLE} is set, which only a test may do: this process would kill itself.")
    point, _, passing = text.partition(":")
    if point not in POINTS or not (passing or "1").isdecimal() or not int(passing or "1"):
        raise FailpointRefused(f"{VARIABLE} must be one of {', '.join(POINTS)}, with the number of a passing behind a colon.")
    _passes_left[point] = int(passing or "1")
