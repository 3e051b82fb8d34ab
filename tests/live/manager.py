"""`python -m tests.live.manager`: a workspace of its own for a program that manages it, and grace, who may become a member.

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
    from billing.permissions import MANAGEMENT_SCOPES  # noqa: PLC0415
    from billing.workspaces import create_workspace  # noqa: PLC0415

    User.objects.create_user("grace")
    managed = create_workspace("managed", actor="tests")
    _, text = mint(managed, "manager", actor="tests", terms=KeyTerms(scopes=sorted(MANAGEMENT_SCOPES)))
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
