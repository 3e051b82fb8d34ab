"""The process above several workers: uvicorn's, which hears that it is to end also while it replaces them.

uvicorn looks at the signals it was sent between two rounds, and one round of replacing waits for as long as the open requests
of every worker take. Here the round is left as soon as it is to end, and a worker that dies meanwhile is replaced as ever.
"""

from __future__ import annotations

import logging
import signal
import time
from socket import socket
from typing import Final

from uvicorn.config import Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

POLL_S: Final = 0.2
_ENDING: Final = {signal.SIGINT, signal.SIGTERM}

logger = logging.getLogger("uvicorn.error")


class Supervisor(Multiprocess):
    """See the module. `run` returns when every worker has ended."""

    def __init__(self, config: Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._leaving: list[Process] = []

    def restart_all(self) -> None:
        """Replace the workers one after the other, each by one that serves already."""
        for place in range(len(self.processes)):
            process = Process(self.config, self.sockets)
            process.start()
            if not self._begins_to_serve(process):
                process.kill()
                process.join()
                if not self._is_to_end:
                    logger.error("A new worker did not begin to serve in time: the others stay")
                return
            leaving, self.processes[place] = self.processes[place], process
            leaving.terminate()
            self._leaving.append(leaving)
            while leaving.process.is_alive():
                if self._is_to_end:
                    return
                leaving.process.join(POLL_S)
                self.keep_subprocess_alive()

    def join_all(self) -> None:
        super().join_all()
        for process in self._leaving:
            process.join()

    @property
    def _is_to_end(self) -> bool:
        return self.should_exit.is_set() or not _ENDING.isdisjoint(self.signal_queue)

    def _begins_to_serve(self, process: Process) -> bool:
        deadline_s = time.monotonic() + self.config.timeout_worker_healthcheck
        while time.monotonic() < deadline_s and process.process.is_alive() and not self._is_to_end:
            if process.is_ready(timeout=POLL_S):
                return True
            time.sleep(POLL_S / 2)
        return False
