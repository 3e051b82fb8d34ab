"""What a key reads below `/v1`: no more than the role that its owner has now (K7). Cells of route and role."""

import csv
import io
import json

import pytest
from django.utils import timezone

from billing.apikeys import mint
from billing.members import change_role
from billing.models import ApiKey, Budget, Membership
from tests.records import NOON, add_charge, add_record
from tests.worlds import ACTOR, make_member

pytestmark = pytest.mark.django_db

MARCH = "start=2026-03-01&end=2026-03-31"
WHO = ("owner", "admin", "developer", "billing", "viewer", "nobody")
# What each role reads, and a key that is nobody's: everybody's, its own member's, or nothing. {theirs} is a request of another
# key, {label} what its caller called it.
CELLS = """
    /v1/credits                              all all 403 all all all
    /v1/key                                  200 200 200 200 200 200
    /v1/usage?{march}                        all all own all all all
    /v1/usage?{march}&group_by=model         all all own all all all
    /v1/usage?{march}&group_by=key           all all own all all all
    /v1/usage?{march}&group_by=member        all all own all all all
    /v1/usage?{march}&group_by=user          all all own all all all
    /v1/usage?{march}&group_by=day           all all own all all all
    /v1/usage/requests?{march}               all all own all all all
    /v1/usage/requests?{march}&after={last}  200 200 400 200 200 200
    /v1/generations/{theirs}                 200 200 404 200 200 200
    /v1/generations/{label}                  200 200 404 200 200 200
    /v1/generations/{mine}                   200 200 200 200 200 200
    /v1/generations/{second}                 200 200 200 200 200 200
"""


class Reader:
    """A key of a member of acme, or of nobody, and what it is answered."""

    def __init__(self, client, workspace, member=None):
        self._client = client
        self.key, text = mint(workspace, "reader", actor=ACTOR)
        if member is not None:
            ApiKey.objects.filter(pk=self.key.pk).update(owner=member)
        self.headers = {"authorization": f"Bearer {text}"}

    def get(self, path, **headers):
        return self._client.get(path, headers=self.headers | headers)


@pytest.fixture
def reader_of(client, acme):
    def made(who):
        return Reader(client, acme.workspace, None if who == "nobody" else make_member(acme.workspace, who))

    return made


@pytest.fixture
def objects_of(acme):
    """Requests at noon: one of the reader, one of another key of his member, two of somebody else."""

    def made(reader):
        reader.key.refresh_from_db()
        second, _ = mint(acme.workspace, "second", actor=ACTOR)
        ApiKey.objects.filter(pk=second.pk).update(owner=reader.key.owner)
        mine = add_charge(acme, 1, api_key=reader.key, end_user="ada")
        second = add_charge(acme, 2, api_key=second)
        theirs = add_charge(acme, 4, request_id="nightly", model_used="gpt-5", end_user="bob")
        last = add_record(acme, created_at=NOON.replace(hour=13))
        rows = {"mine": mine, "second": second, "theirs": theirs, "last": last}
        return {name: row.generation for name, row in rows.items()} | {"label": "nightly", "march": MARCH}

    return made


def told(response):
    """The status; of usage whose it is, by the number of requests: 2 are of one's own, 4 are all."""
    answer = json.loads(response.content)
    if response.status_code != 200 or answer["object"] in {"api_key", "receipt"}:
        return str(response.status_code)
    if answer["object"] == "credits":
        return "all"
    if answer["object"] == "list":
        return {2: "own", 3: "200", 4: "all"}[len(answer["data"])]
    if answer["group_by"]:
        assert sum(group["requests"] for group in answer["data"]) == answer["total"]["requests"]
    return {2: "own", 4: "all"}[answer["total"]["requests"]]


@pytest.mark.slow
@pytest.mark.parametrize("who", WHO)
def test_a_key_reads_as_far_as_the_role_of_its_owner(reader_of, objects_of, who):
    reader = reader_of(who)
    objects = objects_of(reader)
    expected, answers = {}, {}
    for line in CELLS.strip().splitlines():
        path, *cells = line.split()
        expected[path] = cells[WHO.index(who)]
        answers[path] = told(reader.get(path.format(**objects)))
    assert answers == expected


def test_what_is_another_member_s_is_answered_as_what_never_was(reader_of, objects_of):
    reader = reader_of("developer")
    objects = objects_of(reader)
    for path in ("/v1/generations/{}", f"/v1/usage/requests?{MARCH}&after={{}}"):
        theirs, unknown = (reader.get(path.format(name)) for name in (objects["theirs"], "chatcmpl-0"))
        assert theirs.content == unknown.content


def test_of_one_label_a_member_gets_his_own(acme, reader_of, objects_of):
    reader = reader_of("developer")
    objects_of(reader)
    mine = add_record(acme, api_key=reader.key, request_id="nightly", created_at=NOON.replace(hour=1))
    assert reader.get("/v1/generations/nightly").json()["id"] == mine.generation


def test_the_balance_is_refused_by_naming_who_may_read_it(reader_of):
    response = reader_of("developer").get("/v1/credits")
    assert response.status_code == 403
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("permission_denied", None)
    assert "Developer" in error["message"]
    assert "Owner, Admin, Billing, Viewer" in error["message"]


def test_the_key_itself_tells_no_budget_of_the_workspace_to_who_sees_his_own_alone(acme, reader_of):
    for who, scopes in (("developer", ["key", "member"]), ("admin", ["key", "member", "workspace"])):
        reader = reader_of(who)
        reader.key.refresh_from_db()
        subjects = {"workspace": acme.workspace.pk, "member": reader.key.owner_id, "key": reader.key.pk}
        for scope, pk in subjects.items():
            Budget.objects.get_or_create(scope=scope, scope_id=pk, defaults={"limit_microcredits": 5})
        budgets = reader.get("/v1/key").json()["budgets"]
        assert [budget["scope"] for budget in budgets] == scopes


def test_a_role_counts_with_the_next_request(client, acme, objects_of):
    member = make_member(acme.workspace, "admin")
    reader = Reader(client, acme.workspace, member)
    objects_of(reader)
    for role, reads in (("developer", "own"), ("admin", "all")):
        change_role(member, Membership.Role(role), actor=ACTOR)
        assert told(reader.get(f"/v1/usage?{MARCH}")) == reads
        assert reader.get("/v1/credits").status_code == (200 if role == "admin" else 403)


def test_what_is_recent_is_one_s_own_too(reader_of, acme):
    reader = reader_of("developer")
    add_record(acme, created_at=timezone.now())
    assert reader.get("/v1/usage").json()["total"]["requests"] == 0
    add_record(acme, api_key=reader.key, created_at=timezone.now())
    assert reader.get("/v1/usage").json()["total"]["requests"] == 1


@pytest.mark.django_db(transaction=True)
class TestExport:
    @pytest.fixture(params=[("developer", 2), ("admin", 4)])
    def asked(self, request, reader_of, objects_of):
        """Who asks, and how many rows he gets."""
        who, rows = request.param
        reader = reader_of(who)
        objects_of(reader)
        return reader, rows

    async def test_has_the_rows_that_the_role_may_read(self, async_client, asked):
        reader, rows = asked
        response = await async_client.get(f"/v1/usage/requests?{MARCH}&format=csv", headers=reader.headers)
        text = b"".join([part async for part in response.streaming_content]).decode()
        assert len(list(csv.reader(io.StringIO(text, newline="")))) == 1 + rows
