"""How full a workspace is, as alerts are told: by its own limits, in one query for all."""

import pytest
from django.utils import timezone

from billing.alerts.judging import QuotaFact
from billing.models import Notice, QuotaPreset, Workspace
from billing.presets import create_preset, set_plan
from billing.quotas import Limits
from chat.chores import new_watch
from files import keeping
from files.models import FileUsage
from files.room import quota_facts
from tests.unit.files.kept import keep
from tests.worlds import ACTOR, make_world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(store):
    return make_world("Acme", credits=0)


def on_plan(world, **limits):
    number = QuotaPreset.objects.count()
    set_plan(world.workspace, create_preset(f"plan {number}", Limits(**limits), actor=ACTOR), actor=ACTOR)


def facts():
    workspaces = list(Workspace.objects.select_related("plan").order_by("pk"))
    return quota_facts(workspaces, timezone.now())


def test_the_limits_are_those_of_plan_and_settings(acme, settings):
    settings.FILES_PER_WORKSPACE, settings.STORAGE_BYTES_PER_WORKSPACE = 50, 1000
    assert facts() == {}, "of nothing that was ever kept"
    keep(acme, b"12345")
    assert facts() == {acme.workspace.pk: [QuotaFact("files", 1, 50), QuotaFact("storage", 5, 1000)]}
    on_plan(acme, max_files_per_workspace=4)
    settings.PLATFORM_LIMITS = {"max_storage_bytes_per_workspace": 100}
    assert facts() == {acme.workspace.pk: [QuotaFact("files", 1, 4), QuotaFact("storage", 5, 100)]}


def test_one_query_tells_it_of_all(store, django_assert_num_queries):
    for number in range(5):
        world = make_world(f"w{number}", credits=0)
        FileUsage.objects.create(workspace=world.workspace, files=number, stored_bytes=number)
    workspaces = list(Workspace.objects.select_related("plan"))
    with django_assert_num_queries(1):
        assert len(quota_facts(workspaces, timezone.now())) == 5


def test_uploads_are_told_on_their_way_to_the_quota_and_deletions_make_room(acme):
    on_plan(acme, max_files_per_workspace=5)
    watch = new_watch()
    kept, told = [], []
    for _ in range(5):
        kept.append(keep(acme))
        told.append(watch.look())
    assert told == [0, 0, 0, 1, 1]
    titles = Notice.objects.filter(kind="quota.reached").order_by("pk").values_list("title", flat=True)
    assert list(titles) == [f"The number of files of Acme is at {percent} % of its quota" for percent in (80, 100)]
    for file in kept:
        keeping.delete(file)
    assert watch.look() == 0
    for _ in range(5):
        keep(acme)
    assert watch.look() == 0, "not twice within a day"


def test_a_plan_that_is_smaller_than_what_is_kept_is_told(acme):
    keep(acme, b"1234567890")
    watch = new_watch()
    assert watch.look() == 0
    on_plan(acme, max_storage_bytes_per_workspace=8)
    assert watch.look() == 1
    assert Notice.objects.get(kind="quota.reached").data == {"quota": "storage", "percent": 100, "used": 10, "limit": 8}
