"""`python -m tests.live.acts ACT WORKSPACE [NAME] [VALUE]`: what staff or an owner does while a live gateway serves.

A process of its own, so that whatever the gateway knows of it, it knows from the database.

    mint WORKSPACE NAME [LIMIT]     a key, with a monthly budget of so many microcredits; prints its text
    revoke WORKSPACE NAME           that key
    expire WORKSPACE NAME           end its time now
    suspend WORKSPACE
"""

from __future__ import annotations

import sys

import django

ACTOR = "tests"


def main(act: str, workspace_name: str, name: str = "", value: str = "") -> None:
    django.setup()
    from django.utils import timezone  # noqa: PLC0415 - models, which can be imported only now

    from billing import apikeys, workspaces  # noqa: PLC0415
    from billing.models import ApiKey  # noqa: PLC0415

    workspace = workspaces.get_workspace(workspace_name)
    keys = ApiKey.objects.filter(workspace=workspace, name=name)
    match act:
        case "mint":
            terms = apikeys.KeyTerms(max_budget_monthly_microcredits=int(value) if value else None)
            sys.stdout.write(apikeys.mint(workspace, name, actor=ACTOR, terms=terms)[1])
        case "revoke":
            apikeys.revoke(keys.get(), actor=ACTOR)
        case "expire":
            keys.update(expires_at=timezone.now())
        case "suspend":
            workspaces.suspend(workspace, actor=ACTOR)
        case _:
            raise ValueError(act)


if __name__ == "__main__":
    main(*sys.argv[1:])
