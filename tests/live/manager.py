"""`python -m tests.live.manager`: a workspace of its own for a program that manages it, with its owner and grace, a viewer.

Prints the management key. In a process of its own, because it works on the installation's database and not on that of the
test run.
"""

from __future__ import annotations

import sys

import django


def main() -> None:
    django.setup()
    from django.contrib.auth.models import User  # noqa: PLC0415 - models, which can be imported only now

    from billing.apikeys import KeyTerms, mint  # noqa: PLC0415
    from billing.members import add_member  # noqa: PLC0415
    from billing.models import Membership  # noqa: PLC0415
    from billing.permissions import MANAGEMENT_SCOPES  # noqa: PLC0415
    from billing.workspaces import create_workspace  # noqa: PLC0415

    managed = create_workspace("managed", actor="tests")
    for name, role in (("ada", Membership.Role.OWNER), ("grace", Membership.Role.VIEWER)):
        add_member(managed, User.objects.create_user(f"{name}-of-managed"), role, actor="tests")
    _, text = mint(managed, "manager", actor="tests", terms=KeyTerms(scopes=sorted(MANAGEMENT_SCOPES)))
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
