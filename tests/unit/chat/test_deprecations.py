"""Whom the deprecation of a model is told: who used it, once for each date, and by housekeeping as it is composed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from billing.models import Notice, Workspace
from chat.chores import new_watch
from chat.deprecations import USED_EVERY, Deprecations
from chat.models import CatalogModel
from tests.records import add_record
from tests.worlds import make_world

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def now():
    return timezone.now()


def deprecate(slug, in_days, **fields):
    """`in_days` None takes the date back."""
    day = None if in_days is None else timezone.now().date() + timedelta(days=in_days)
    values = {"name": slug, "owned_by": "x", "context_window": 1, "max_output_tokens": 1, "deprecated_on": day} | fields
    CatalogModel.objects.update_or_create(slug=slug, defaults=values)


def use(world, slug, ago):
    add_record(world, model_used=slug, created_at=timezone.now() - ago)


def told():
    return [
        (name, data["model"], data["days_left"])
        for name, data in Notice.objects.filter(kind="model.deprecated").order_by("pk").values_list("workspace__name", "data")
    ]


def test_who_used_a_model_that_is_near_its_date_is_told_once(acme, rival, broke):
    deprecate("near", 12)
    deprecate("gone", -100, is_enabled=False)
    deprecate("far", 31)
    deprecate("lasting", None)
    for slug in ("near", "far", "lasting"):
        use(acme, slug, timedelta(hours=1))
    use(rival, "gone", 29 * DAY)
    use(broke, "near", 31 * DAY)
    watch = new_watch()
    assert [watch.look(), watch.look()] == [2, 0]
    assert new_watch().look() == 0
    assert told() == [("Acme", "near", 12), ("Rival", "gone", 0)]


def test_a_notice_names_no_successor(acme):
    deprecate("near", 12)
    use(acme, "near", DAY)
    new_watch().look()
    notice = Notice.objects.get(kind="model.deprecated")
    assert set(notice.data) == {"model", "deprecated_on", "days_left"}
    assert notice.place == "models"


def test_a_date_that_staff_set_counts_at_once_and_is_told_anew(acme):
    use(acme, "model", timedelta(hours=1))
    watch = new_watch()
    assert watch.look() == 0
    for in_days, expected in ((20, 1), (25, 1), (25, 0), (None, 0), (25, 1)):
        deprecate("model", in_days)
        assert watch.look() == expected, in_days
    assert [left for _, _, left in told()] == [20, 25, 25]


def test_a_pass_asks_as_often_for_many_workspaces_as_for_few(now, django_assert_num_queries):
    for number in range(6):
        world = make_world(f"w{number}", credits=0)
        for slug in ("a", "b"):
            use(world, slug, DAY)
    workspaces = list(Workspace.objects.all())
    with django_assert_num_queries(1):
        assert Deprecations().read(workspaces, now) == {}
    for slug in ("a", "b"):
        deprecate(slug, 3)
    reader = Deprecations()
    with django_assert_num_queries(4):
        found = reader.read(workspaces, now)
    assert {pk: [fact.slug for fact in facts] for pk, facts in found.items()} == {one.pk: ["a", "b"] for one in workspaces}
    with django_assert_num_queries(1):
        assert reader.read(workspaces[:2], now + USED_EVERY - timedelta(seconds=1)).keys() == {one.pk for one in workspaces[:2]}
    with django_assert_num_queries(4):
        reader.read(workspaces, now + USED_EVERY)


def test_a_pass_over_everything_costs_a_few_queries(now, django_assert_max_num_queries):
    deprecate("a", 3)
    for number in range(6):
        world = make_world(f"w{number}", credits=100)
        for depth in (0, 1):
            add_record(world, model_used="a", fallback_depth=depth, created_at=now)
    new_watch().look()
    with django_assert_max_num_queries(9):
        assert new_watch().look() == 0
    assert len(told()) == 6


def test_whoever_began_to_use_it_is_found_within_the_hour(acme, now):
    deprecate("a", 3)
    reader = Deprecations()
    assert reader.read([acme.workspace], now) == {}
    use(acme, "a", DAY)
    assert reader.read([acme.workspace], now + timedelta(minutes=59)) == {}
    assert len(reader.read([acme.workspace], now + USED_EVERY)) == 1
    assert len(Deprecations().read([acme.workspace], now)) == 1


def test_a_clock_that_was_set_back_hides_nothing(acme, now):
    deprecate("a", 3)
    reader = Deprecations()
    reader.read([acme.workspace], now + 10 * DAY)
    use(acme, "a", DAY)
    assert len(reader.read([acme.workspace], now)) == 1
