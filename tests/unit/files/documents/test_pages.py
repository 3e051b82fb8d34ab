"""What is kept of converted pages: who makes it, who may read it, when it goes."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.core.files.base import ContentFile
from django.core.files.storage import storages
from django.db.models import F
from django.utils import timezone

from billing.models import Workspace
from files import pages
from files.documents import Documents
from files.errors import StorageUnavailable
from files.models import Document, Rendition
from files.pages import Claim, Place
from files.purging import purge_orphans
from files.storage import MOST_FAILURES
from tests.fakes import pdfs
from tests.unit.files.documents.reading import ENGINES, CountingSandbox

TWO = pdfs.of_pages(["A secret", "Another"])
ENGINE = next(iter(ENGINES.values()))


@pytest.fixture
def sandbox():
    return CountingSandbox(kept_in=ENGINE)


@pytest.fixture(autouse=True)
def _pages_in_a_folder_of_this_test(settings, tmp_path):
    settings.STORAGES = {
        **settings.STORAGES,
        "pages": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "pages"}},
    }


@pytest.fixture
def kept(tmp_path):
    """The names of all objects that are in the storage."""
    return lambda: sorted(
        str(path.relative_to(tmp_path / "pages")) for path in (tmp_path / "pages").rglob("*") if path.is_file()
    )


def claimed(workspace_id, digest="0" * 64, form="text"):
    """What another process would hold."""
    pages.note_sizes(workspace_id, digest, "engine-1", ((612.0, 792.0),))
    claim = pages.find_or_claim(Place(workspace_id, digest, form, "engine-1"))
    assert isinstance(claim, Claim)
    return claim


def converted(workspace_id, digest, size_bytes=1_000):
    claim = claimed(workspace_id, digest * 64)
    pages.keep(claim, [bytes(size_bytes)])
    return claim.place


async def change(model, **values):
    """Let time pass."""
    await sync_to_async(model.objects.update)(**values)


async def test_one_of_many_gets_the_claim(workspace_id):
    claim = await sync_to_async(claimed)(workspace_id)
    found = await asyncio.gather(*(pages.in_thread(pages.find_or_claim, claim.place) for _ in range(10)))
    assert found == [None] * 10
    await pages.in_thread(pages.keep, claim, [b"one", b"two"])
    found = await asyncio.gather(*(pages.in_thread(pages.find_or_claim, claim.place) for _ in range(10)))
    assert found == [[b"one", b"two"]] * 10


def test_of_many_who_ask_first_one_gets_the_claim(workspace_id):
    pages.note_sizes(workspace_id, "0" * 64, "engine-1", ((612.0, 792.0),))
    place = Place(workspace_id, "0" * 64, "text", "engine-1")

    async def ask():
        return await asyncio.gather(*(pages.in_thread(pages.find_or_claim, place) for _ in range(12)))

    found = asyncio.run(ask())
    assert sum(isinstance(one, Claim) for one in found) == 1
    assert sum(one is None for one in found) == 11


async def test_a_request_waits_for_another_process_and_gets_what_it_made(sandbox, workspace_id):
    documents = Documents(sandbox)
    document = await documents.examine(workspace_id, TWO)
    claim = await pages.in_thread(pages.find_or_claim, Place(workspace_id, document.digest, "text", document.engine))
    waiting = asyncio.create_task(documents.texts(document))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await pages.in_thread(pages.keep, claim, [b"made", b"elsewhere"])
    assert await waiting == ("made", "elsewhere")
    assert sandbox.ran == ["sizes"]


async def test_the_claim_of_a_process_that_died_is_taken_over(sandbox, workspace_id, kept):
    documents = Documents(sandbox)
    document = await documents.examine(workspace_id, TWO)
    claim = await pages.in_thread(pages.find_or_claim, Place(workspace_id, document.digest, "text", document.engine))
    storages["pages"].save(claim.object_name, ContentFile(b"half"))
    await change(Rendition, lease_expires_at=timezone.now() - timedelta(seconds=1))
    texts = await documents.texts(document)
    assert len(kept()) == 1
    await pages.in_thread(pages.keep, claim, [b"too", b"late"])
    await pages.in_thread(pages.release, claim)
    assert await documents.texts(document) == texts
    assert len(kept()) == 1


async def test_a_claim_that_is_given_back_leaves_nothing(workspace_id, kept):
    claim = await sync_to_async(claimed)(workspace_id)
    await pages.in_thread(pages.release, claim)
    assert not await Rendition.objects.aexists()
    assert kept() == []
    assert isinstance(await pages.in_thread(pages.find_or_claim, claim.place), Claim)


async def test_pages_are_encrypted_for_their_place(sandbox, workspace_id, rival_id, kept, tmp_path):
    documents = Documents(sandbox)
    document = await documents.examine(workspace_id, TWO)
    await documents.texts(document)
    (name,) = kept()
    data = (tmp_path / "pages" / name).read_bytes()
    assert b"secret" not in data
    assert name.startswith(f"{workspace_id}/")
    others = await documents.examine(rival_id, TWO)
    await documents.texts(others)
    theirs = next(one for one in kept() if one.startswith(f"{rival_id}/"))
    (tmp_path / "pages" / theirs).write_bytes(data)
    sandbox.ran.clear()
    assert "A secret" in (await documents.texts(others))[0]
    assert sandbox.ran == ["text"]  # what was moved there does not open, and is made anew


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "cut", "another-key", "empty"])
async def test_pages_that_cannot_be_read_are_made_anew(sandbox, workspace_id, kept, tmp_path, settings, damage):
    documents = Documents(sandbox)
    document = await documents.examine(workspace_id, TWO)
    before = await documents.texts(document)
    path = tmp_path / "pages" / kept()[0]
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        settings.FIELD_ENCRYPTION_KEYS = ["another key"]
    assert await documents.texts(document) == before
    assert sandbox.ran == ["sizes", "text", "text"]
    assert len(kept()) == 1


async def test_a_storage_that_fails_costs_no_request(sandbox, workspace_id, settings, tmp_path):
    (tmp_path / "file").touch()
    options = {"location": tmp_path / "file" / "below"}
    settings.STORAGES = {
        **settings.STORAGES,
        "pages": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": options},
    }
    documents = Documents(sandbox)
    document = await documents.examine(workspace_id, TWO)
    assert len(await documents.texts(document)) == 2
    assert [await documents.count_new(document) for _ in range(2)] == [2, 0]
    assert len(await documents.texts(document)) == 2


async def test_pages_outlive_an_outage_of_the_storage(sandbox, workspace_id, troubled_store):
    documents = Documents(sandbox)
    document = await documents.examine(workspace_id, TWO)
    texts = await documents.texts(document)
    troubled_store.is_away = True
    assert await documents.texts(document) == texts
    troubled_store.end()
    assert await documents.texts(document) == texts
    assert sandbox.ran == ["sizes", "text", "text"]


def test_no_row_goes_before_its_object(workspace_id, settings, troubled_store, store):
    for digest in "abcde":
        converted(workspace_id, digest)
    settings.PAGES_MAX_BYTES = 0
    troubled_store.is_away = True
    with pytest.raises(StorageUnavailable):
        pages.purge()
    assert len(troubled_store.asked) == MOST_FAILURES
    assert Rendition.objects.count() == 5
    troubled_store.end()
    assert pages.purge() == 5
    assert not [path for path in store.rglob("*") if path.is_file()]


def test_one_object_that_cannot_be_deleted_keeps_no_other(workspace_id, settings, kept, tmp_path):
    for hours, digest in enumerate("abcd"):
        converted(workspace_id, digest)
        Rendition.objects.filter(document__digest=digest * 64).update(used_at=timezone.now() - timedelta(hours=9 - hours))
    path = tmp_path / "pages" / Rendition.objects.order_by("used_at").first().object_name
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    settings.PAGES_MAX_BYTES = 0
    assert pages.purge() == 3
    assert Rendition.objects.get().document.digest == "a" * 64


async def test_another_version_of_the_engine_converts_anew_for_nothing(workspace_id):
    old = CountingSandbox(kept_in=ENGINE)
    document = await Documents(old).examine(workspace_id, TWO)
    await Documents(old).texts(document)
    assert await Documents(old).count_new(document) == 2
    await change(Document, engine="poppler-0.1")
    await change(Rendition, engine="poppler-0.1")
    new = CountingSandbox(kept_in=ENGINE)
    again = await Documents(new).examine(workspace_id, TWO)
    await Documents(new).texts(again)
    assert again.is_converted
    assert new.ran == ["sizes", "text"]


def test_purge_removes_what_nobody_asked_for(workspace_id, settings, kept):
    converted(workspace_id, "a")
    place = converted(workspace_id, "b")
    Rendition.objects.filter(document__digest="a" * 64).update(
        used_at=timezone.now() - timedelta(seconds=settings.PAGES_KEPT_S + 9)
    )
    assert pages.purge() == 1
    assert len(kept()) == 1
    assert pages.find_or_claim(place) == [bytes(1_000)]
    assert Document.objects.count() == 2


def test_purge_removes_the_longest_unused_of_too_many(workspace_id, settings, kept):
    for hours, digest in enumerate("abcd"):
        converted(workspace_id, digest)
        Rendition.objects.filter(document__digest=digest * 64).update(used_at=timezone.now() - timedelta(hours=9 - hours))
    settings.PAGES_MAX_BYTES = 2 * Rendition.objects.first().size_bytes
    assert pages.purge() == 2
    assert sorted(Rendition.objects.values_list("document__digest", flat=True)) == ["c" * 64, "d" * 64]
    assert len(kept()) == 2
    assert pages.purge() == 0


def test_purge_removes_what_dead_processes_left(workspace_id, kept):
    claim = claimed(workspace_id)
    storages["pages"].save(claim.object_name, ContentFile(b"half"))
    assert pages.purge() == 0
    Rendition.objects.update(lease_expires_at=timezone.now() - timedelta(seconds=1))
    assert pages.purge() == 1
    assert kept() == []


def test_pages_are_no_orphans_of_the_store_of_files(workspace_id, settings, tmp_path, kept):
    """They have a place of their own in it."""
    folder = {"BACKEND": "files.storage.FolderStorage", "OPTIONS": {"location": tmp_path}}
    settings.STORAGES = {**settings.STORAGES, "files": folder}
    converted(workspace_id, "a")
    storages["files"].save("ws_gone/file-1", ContentFile(b"an orphan"))
    assert purge_orphans() == 1
    assert len(kept()) == 1


def test_objects_without_a_row_are_orphans(workspace_id, settings, tmp_path, kept):
    settings.STORAGES = {
        **settings.STORAGES,
        "files": {"BACKEND": "files.storage.FolderStorage", "OPTIONS": {"location": tmp_path / "store"}},
    }
    converted(workspace_id, "a")
    claim = claimed(workspace_id)
    storages["pages"].save(claim.object_name, ContentFile(b"half"))
    storages["pages"].save("7/ff/of-a-restored-database", ContentFile(b"an orphan"))
    assert purge_orphans() == 1
    assert len(kept()) == 2


def test_purge_forgets_documents_after_more_than_a_year(workspace_id):
    place = converted(workspace_id, "a")
    pages.count_new(workspace_id, place.digest)
    Document.objects.update(used_at=timezone.now() - timedelta(days=401))
    pages.purge()
    assert Document.objects.count() == 1  # its pages are still there
    Rendition.objects.all().delete()
    pages.purge()
    assert not Document.objects.exists()


def test_reading_is_seldom_writing(workspace_id):
    place = converted(workspace_id, "a")
    used_at = timezone.now() - timedelta(minutes=59)
    Rendition.objects.update(used_at=used_at)
    pages.find_or_claim(place)
    assert Rendition.objects.get().used_at == used_at
    Rendition.objects.update(used_at=F("used_at") - timedelta(minutes=2))
    pages.find_or_claim(place)
    assert Rendition.objects.get().used_at > used_at


def test_pages_of_a_document_count_as_new_once(workspace_id):
    place = converted(workspace_id, "a")
    assert [pages.count_new(workspace_id, place.digest) for _ in range(3)] == [1, 0, 0]
    other = Place(Workspace.objects.create(name="Other").pk, "a" * 64, "images", "engine-1")
    pages.note_sizes(other.workspace_id, other.digest, other.engine, ((1.0, 1.0),) * 3)
    assert pages.count_new(other.workspace_id, other.digest) == 3
