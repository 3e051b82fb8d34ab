"""`python -m tests.live.visitors`: members of acme, one in each role, and the owner of another workspace, signed in.

Prints one line of JSON: the public id of acme, and a session by role. In a process of its own, because it works on the
installation's database and not on that of the test run.
"""

from __future__ import annotations

import json
import sys

import django


def main() -> None:
    django.setup()
    from django.test import Client  # noqa: PLC0415 - models, which can be imported only now

    from billing.models import Membership  # noqa: PLC0415
    from billing.workspaces import create_workspace, get_workspace  # noqa: PLC0415
    from tests.worlds import make_member  # noqa: PLC0415

    acme = get_workspace("acme")
    members = {role: make_member(acme, role, username=f"live-{role}") for role in Membership.Role.values}
    members["stranger"] = make_member(create_workspace("strange", actor="tests"), "owner", username="live-stranger")
    sessions = {}
    for name, member in members.items():
        client = Client()
        client.force_login(member.user)
        sessions[name] = client.cookies["sessionid"].value
    sys.stdout.write(json.dumps({"workspace": acme.public_id, "sessions": sessions}) + "\n")


if __name__ == "__main__":
    main()
