"""`python -m tests.e2e.people`: the staff of an installation, signed in. Prints one line of JSON: a session by user name.

In a process of its own, because it works on the installation's database and not on that of the test run.
"""

from __future__ import annotations

import json
import sys

import django

ROLES = {"ada": "", "ben": "support", "finn": "finance", "fay": "finance", "cat": "catalogue"}
"""`ada` is the superuser."""
# Superusers who have not signed in yet, each for one test, and somebody who is not of the staff
NEWCOMERS, CUSTOMER = ("newcomer", "sam"), "pat"
PASSWORD = "correct horse battery"


def main() -> None:
    django.setup()
    from django.contrib.auth.models import Group, User  # noqa: PLC0415 - models, which can be imported only now
    from django.test import Client  # noqa: PLC0415

    from tests.api.admin.pages import sign_in  # noqa: PLC0415

    sessions = {}
    for name, role in ROLES.items():
        user = User.objects.create_user(name, is_staff=True, is_superuser=not role)
        user.groups.set(Group.objects.filter(name=role))
        client = Client()
        sign_in(client, user)
        sessions[name] = client.cookies["sessionid"].value
    for name in NEWCOMERS:
        User.objects.create_superuser(name, password=PASSWORD)
    User.objects.create_user(CUSTOMER, password=PASSWORD)
    sys.stdout.write(json.dumps(sessions) + "\n")


if __name__ == "__main__":
    main()
