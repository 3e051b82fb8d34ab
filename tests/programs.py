"""Python programs of the project, run to their end as an operator would."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 900.0


def run_python(*arguments: str, environment: Mapping[str, str]) -> str:
    """What it printed. Raises AssertionError if it failed."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert result.returncode == 0, f"{' '.join(arguments)} failed:\n{result.stdout}{result.stderr}"
    return result.stdout
