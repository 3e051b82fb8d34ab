"""`python -m tests.e2e.people`: the staff of an installation, signed in, and then whatever its customers need.

Prints one line of JSON: a session by user name. Then it answers each line of JSON that it reads by one: `["come", EMAIL]` by the
session of a new customer, `["give", WORKSPACE, CREDITS]` once they are there. One process, because it takes seconds to start;
of its own, because it works on the installation's database and not on that of the test run.
"""

from __future__ import annotations

import io
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
    from django.core.management import call_command  # noqa: PLC0415
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
    _answer(sessions)
    for line in sys.stdin:
        what, *told = json.loads(line)
        if what == "come":
            _answer(_customer(*told))
        else:
            call_command("top_up", *told, reason="a test", stdout=io.StringIO())
            _answer("given")


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _customer(email: str) -> str:
    """As signing up with a mail address leaves him, whose link he followed: the session."""
    from allauth.account.internal.flows.login import record_authentication  # noqa: PLC0415
    from allauth.account.models import EmailAddress  # noqa: PLC0415
    from allauth.utils import generate_unique_username  # noqa: PLC0415
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.http import HttpRequest  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415

    user = User.objects.create_user(generate_unique_username([email]), email, PASSWORD)
    EmailAddress.objects.create(user=user, email=email, verified=True, primary=True)
    client = Client()
    client.force_login(user)
    request = HttpRequest()
    request.session, request.user = client.session, user
    record_authentication(request, user, "password", email=email)
    request.session.save()
    return client.cookies["sessionid"].value


if __name__ == "__main__":
    main()
