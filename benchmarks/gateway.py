"""The gateway as an operator starts it: migrated, with a catalogue, a workspace with credits, and one worker.

Everything is on, as it is in production; only the database is fresh. The provider of the catalogue is the benchmark's own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from benchmarks.processes import BenchmarkError, Server, run_python
from tests.fakes.ports import free_port

MODEL = "bench-1"
CREDITS = 1_000_000

_CATALOG = """
providers:
  - {{slug: bench, dialect: openai, base_url: "http://127.0.0.1:{port}/v1", allow_private_address: true}}
models:
  - slug: {model}
    name: Bench
    owned_by: bench
    context_window: 128000
    max_output_tokens: 4096
    supports: [streaming]
    prices: {{input: 10, output: 40}}
    targets: [{{provider: bench, upstream_model: {model}}}]
"""

# What would make the gateway another than a fresh install is.
_SETTINGS = (
    *("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "RECEIPT_SIGNING_KEYS", "ALLOWED_HOSTS", "PUBLIC_URL", "TRUSTED_PROXIES"),
    *("REDIS_URL", "OWN_NETWORKS", "DATABASE_URL", "CORS_ALLOWED_ORIGINS"),
    *("INFERY_STATE_DIR", "INFERY_WORKERS", "LOG_LEVEL", "DJANGO_SETTINGS_MODULE"),
)


def environment_of(folder: Path, database_url: str = "") -> dict[str, str]:
    """The settings of a fresh install whose state is in `folder`; without `database_url` SQLite is in it."""
    inherited = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in _SETTINGS}
    return inherited | {"INFERY_STATE_DIR": str(folder)} | ({"DATABASE_URL": database_url} if database_url else {})


class Installation:
    """A gateway that is ready to be started. `folder` must be empty; without `database_url` SQLite is in it."""

    def __init__(self, folder: Path, provider_port: int, database_url: str = "") -> None:
        self._folder = folder
        self._environment = environment_of(folder, database_url)
        catalog = folder / "catalog.yaml"
        catalog.write_text(_CATALOG.format(port=provider_port, model=MODEL), encoding="utf-8")
        self._manage("migrate", "--verbosity", "0")
        self._manage("load_catalog", str(catalog))
        self.key = self._workspace_key()

    def server(self) -> Server:
        """The gateway's process; one worker, so the process is the worker."""
        port = free_port()
        arguments = ["manage.py", "serve", "--port", str(port), "--workers", "1"]
        return Server(arguments, port, self._folder / "gateway.log", self._environment)

    def _workspace_key(self) -> str:
        output = self._manage("create_workspace", "Bench", "--credits", str(CREDITS), "--json")
        try:
            key: str = json.loads(output.splitlines()[-1])["key"]
        except (IndexError, KeyError, ValueError) as error:
            raise BenchmarkError(f"create_workspace did not end with a line of JSON: {output!r}") from error
        return key

    def _manage(self, *arguments: str) -> str:
        return run_python(["manage.py", *arguments], self._environment)
