import json
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command

from billing import apikeys
from billing.models import Account, ApiKey, Workspace
from chat.models import CatalogModel

pytestmark = pytest.mark.django_db


def prepare():
    output = StringIO()
    call_command("prepare", json=True, stdout=output)
    return json.loads(output.getvalue())


def test_an_empty_installation_gets_what_a_newcomer_needs():
    made = prepare()
    workspace = Workspace.objects.get()
    assert made["workspace"] == workspace.name
    assert Account.objects.get(workspace=workspace).posted_microcredits == 1_000_000_000
    assert ApiKey.objects.get().digest == apikeys.digest_of(made["key"])
    assert CatalogModel.objects.filter(slug="sandbox-echo").exists()
    staff = get_user_model().objects.get()
    assert staff.username == made["admin_user"]
    assert staff.is_superuser
    assert staff.check_password(made["admin_password"])


def test_the_second_time_nothing_is_made():
    prepare()
    assert prepare() == {}
    assert Workspace.objects.count() == 1
    assert get_user_model().objects.count() == 1


def test_an_installation_in_use_gets_no_demo(acme):
    assert prepare() == {}
    assert Workspace.objects.get() == acme.workspace
    assert not get_user_model().objects.exists()
    assert not CatalogModel.objects.exists()
