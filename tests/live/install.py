"""`python -m tests.live.install CATALOG`: makes the database of a live gateway by the commands an operator would use.

Prints one line of JSON: the keys of its workspaces by name. One process for all commands, because each start takes a second.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import django
from django.core.management import call_command

CREDITS = {"acme": "100000", "modest": "1", "broke": "0"}
REQUESTS_PER_MINUTE = 3


def main(catalog: str) -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    call_command("load_catalog", catalog, stdout=io.StringIO())
    keys = {name: _workspace_key(name, credits) for name, credits in CREDITS.items()}
    keys["limited"] = _key("acme", "limited", max_requests_per_minute=REQUESTS_PER_MINUTE)
    keys["managing"] = _key("acme", "managing", scopes=("keys:manage",))
    sys.stdout.write(json.dumps(keys) + "\n")


def _workspace_key(name: str, credits: str) -> str:
    output = io.StringIO()
    call_command("create_workspace", name, credits=credits, json=True, stdout=output)
    key: str = json.loads(output.getvalue().splitlines()[-1])["key"]
    return key


def _key(workspace: str, name: str, **terms: Any) -> str:
    from billing import apikeys  # noqa: PLC0415 - models, which can be imported only now
    from billing.workspaces import get_workspace  # noqa: PLC0415

    _, key_text = apikeys.mint(get_workspace(workspace), name, actor="tests", terms=apikeys.KeyTerms(**terms))
    return key_text


if __name__ == "__main__":
    main(sys.argv[1])
