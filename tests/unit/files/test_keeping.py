"""Room, rows and bytes of files stay together, whatever fails; what has to go goes."""

import io
import resource
import tempfile
import threading
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection
from django.utils import timezone

from billing.models import ApiKey
from billing.presets import create_preset
from billing.quotas import Limits
from billing.workspaces import close_workspace
from files import keeping, purging
from files.access import files_of, get_file
from files.errors import (
    FileAboveLimit,
    FileCountQuotaExceeded,
    FileNotFound,
    FileNotReady,
    StorageQuotaExceeded,
    StorageUnavailable,
)
from files.models import FileUsage, StoredFile
from files.reading import PIECE_BYTES, find_file, open_file, pieces, read_file
from files.room import room_for
from files.storage import MOST_FAILURES
from tests.unit.files.kept import keep, new_file
from tests.worlds import make_world

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def acme(store):
    return make_world("Acme", credits=0)


@pytest.fixture
def rival(store):
    return make_world("Rival", credits=0)


def limit(world, **limits):
    preset = create_preset("small", Limits(**limits), actor="tests")
    type(world.workspace).objects.filter(pk=world.workspace.pk).update(plan=preset)


def usage(world):
    row = FileUsage.objects.filter(workspace=world.workspace).first()
    return (row.files, row.stored_bytes) if row else (0, 0)


def stored(store):
    return sorted(path.name for path in store.rglob("*") if path.is_file())


def test_what_is_kept_can_be_read_and_counts(acme, store):
    file = keep(acme, b"12345")
    assert (file.state, usage(acme), stored(store)) == ("ready", (1, 5), [file.public_id])
    keep(acme, b"678")
    assert usage(acme) == (2, 8)
    assert keeping.delete(file)
    assert not keeping.delete(file)
    assert usage(acme) == (1, 3)
    assert StoredFile.objects.get(pk=file.pk).destroyed_at is not None
    assert file.public_id not in stored(store)


def test_a_quota_is_met_at_the_next_byte_and_file(acme):
    limit(acme, max_storage_bytes_per_workspace=10, max_files_per_workspace=2)
    keep(acme, b"12345")
    with pytest.raises(StorageQuotaExceeded):
        keep(acme, b"123456")
    keep(acme, b"12345")
    with pytest.raises(FileCountQuotaExceeded):
        keep(acme, b"1")
    assert usage(acme) == (2, 10)
    assert StoredFile.objects.count() == 2


def test_the_tightest_layer_counts(acme, settings):
    limit(acme, max_file_size_bytes=10, max_files_per_workspace=7)
    ApiKey.objects.filter(pk=acme.key.pk).update(preset=create_preset("key", Limits(max_files_per_workspace=3), actor="tests"))
    settings.STORAGE_BYTES_PER_WORKSPACE = 100
    room = room_for(acme.key.pk)
    assert (room.most_file_bytes, room.most_files, room.most_bytes) == (10, 3, 100)
    settings.PLATFORM_LIMITS = {"max_file_size_bytes": 10**12}
    assert room_for(make_world("Other", credits=0).key.pk).most_file_bytes == settings.FILE_LIMIT_BYTES


def test_of_many_at_once_none_crosses_a_quota(acme, store):
    """Twelve begin with the same look at an empty store, in which there is room for five."""
    limit(acme, max_storage_bytes_per_workspace=25, max_files_per_workspace=9)
    start, outcomes = threading.Barrier(12), []

    def upload():
        try:
            start.wait(20)
            outcomes.append(keep(acme, b"12345"))
        except StorageQuotaExceeded as refused:
            outcomes.append(refused)
        finally:
            connection.close()

    threads = [threading.Thread(target=upload) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, StoredFile) for outcome in outcomes) == 5
    assert len(outcomes) == 12
    assert usage(acme) == (5, 25)
    assert len(stored(store)) == 5


def test_a_file_is_ended_once_however_many_try(acme, store):
    keep(acme)
    file = keep(acme)
    start, outcomes = threading.Barrier(8), []

    def delete():
        try:
            start.wait(20)
            outcomes.append(keeping.delete(file))
        finally:
            connection.close()

    threads = [threading.Thread(target=delete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    assert usage(acme) == (1, 9)


def test_nothing_stays_of_what_could_not_be_stored(acme, store):
    """141."""
    store.write_text("a file where the folder should be")
    with pytest.raises(StorageUnavailable):
        keep(acme)
    assert usage(acme) == (0, 0)
    assert not files_of(acme.workspace.pk).exists()
    store.unlink()
    assert purging.purge() == 1
    assert StoredFile.objects.get().destroyed_at is not None


def test_nothing_stays_of_a_file_for_which_the_disk_has_no_room(acme, store):
    """141. This process may write no file beyond 32 MB, which it meets as it would a full disk: in the middle of the file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    data = b"x" * (40 * 1024 * 1024)
    with tempfile.TemporaryFile() as content:
        content.write(data)
        content.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (32 * 1024 * 1024, limits[1]))
        try:
            with pytest.raises(StorageUnavailable):
                keeping.keep(
                    acme.workspace.pk,
                    acme.workspace.public_id,
                    new_file(data),
                    content,
                    room_for(acme.key.pk),
                    now=timezone.now(),
                )
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert usage(acme) == (0, 0)
    assert stored(store) == []
    assert StoredFile.objects.get().destroyed_at is not None


def test_bytes_that_cannot_be_destroyed_are_out_of_reach_and_purged_later(acme, store):
    file = keep(acme)
    hidden = store.with_name("hidden")
    store.rename(hidden)
    store.write_text("in the way")
    assert keeping.delete(file)
    assert get_file(acme.workspace.pk, file.public_id) is None
    assert usage(acme) == (0, 0)
    with pytest.raises(StorageUnavailable):
        purging.purge()
    with pytest.raises(CommandError):
        call_command("purge_files")
    store.unlink()
    hidden.rename(store)
    assert purging.purge() == 1
    assert stored(store) == []
    assert purging.purge() == 0


def test_a_file_that_cannot_be_destroyed_keeps_no_other(acme, store):
    """Its place is taken by a folder, which no store deletes as a file."""
    stuck, *others = (keep(acme) for _ in range(9))
    path = store / stuck.store_name
    path.unlink()
    path.mkdir()
    (path / "in the way").touch()
    for file in (stuck, *others):
        keeping.end(file)
    assert purging.purge() == 8
    with pytest.raises(StorageUnavailable):
        purging.purge()
    assert list(StoredFile.objects.filter(destroyed_at=None)) == [stuck]
    (path / "in the way").unlink()
    assert purging.purge() == 1


def test_a_store_that_is_away_is_asked_a_few_times_in_a_round(acme, troubled_store):
    for _ in range(MOST_FAILURES + 1):
        keeping.end(keep(acme))
    troubled_store.is_away = True
    with pytest.raises(StorageUnavailable):
        purging.purge()
    assert len(troubled_store.asked) == MOST_FAILURES
    troubled_store.end()
    assert purging.purge() == MOST_FAILURES + 1


def test_a_file_that_expired_is_gone_at_once_and_purged(acme, store):
    file, other = keep(acme, expires_after_s=3600), keep(acme)
    StoredFile.objects.filter(pk=file.pk).update(expires_at=timezone.now())
    assert list(files_of(acme.workspace.pk)) == [other]
    assert usage(acme) == (2, 18)
    assert purging.purge() == 1
    assert usage(acme) == (1, 9)
    assert stored(store) == [other.public_id]


def test_the_files_of_a_workspace_that_was_closed_are_destroyed(acme, rival, store):
    keep(acme)
    kept = keep(rival)
    assert close_workspace(acme.workspace, actor="test")
    assert purging.purge() == 1
    assert stored(store) == [kept.public_id]


def test_uploads_that_died_and_orphans_are_purged(acme, store):
    file, dead, running = keep(acme), keep(acme), keep(acme)
    StoredFile.objects.filter(pk__in=[dead.pk, running.pk]).update(state="pending")
    StoredFile.objects.filter(pk=dead.pk).update(created_at=timezone.now() - timedelta(hours=7))
    (store / acme.workspace.public_id / "nobody").write_bytes(b"x")
    (store / "ws_gone").mkdir()
    (store / "ws_gone" / "file").write_bytes(b"x")
    output = io.StringIO()
    call_command("purge_files", stdout=output)
    assert output.getvalue() == "1 files and 2 orphans purged.\n"
    assert stored(store) == sorted([file.public_id, running.public_id])
    assert usage(acme) == (2, 18)


def test_a_store_that_was_never_used_has_no_orphans(acme, store):
    output = io.StringIO()
    call_command("purge_files", stdout=output)
    assert output.getvalue() == "0 files and 0 orphans purged.\n"


async def read(workspace_id, file_id):
    return await read_file(await find_file(workspace_id, file_id, most_bytes=5))


async def test_a_request_reads_a_file(acme, rival, store):
    file = await sync_to_async(keep)(acme, b"hello", filename="hi.txt")
    workspace = acme.workspace.pk
    assert await read(workspace, file.public_id) == (b"hello", "text/plain", "hi.txt")
    with pytest.raises(FileAboveLimit):
        await find_file(workspace, file.public_id, most_bytes=4)
    for stranger, file_id in ((rival.workspace.pk, file.public_id), (workspace, "file_" + "0" * 22), (workspace, "../x\0")):
        with pytest.raises(FileNotFound):
            await find_file(stranger, file_id, most_bytes=5)


async def test_row_113_a_file_that_is_not_there_yet_or_any_more(acme, store):
    file = await sync_to_async(keep)(acme, b"hello")
    rows = StoredFile.objects.filter(pk=file.pk)
    named = (acme.workspace.pk, file.public_id)
    await rows.aupdate(state="pending")
    with pytest.raises(FileNotReady) as refused:
        await read(*named)
    assert (refused.value.at("x").status, refused.value.at("x").code) == (400, "file_not_ready")
    await rows.aupdate(state="ready")
    path = store / file.store_name
    for damage in (b"hell", b"hullo"):
        path.write_bytes(damage)
        with pytest.raises(StorageUnavailable):
            await read(*named)
    path.unlink()
    with pytest.raises(StorageUnavailable):
        await read(*named)
    await rows.aupdate(state="deleted", deleted_at=timezone.now())
    with pytest.raises(FileNotFound):
        await read(*named)


@pytest.mark.parametrize("size_bytes", [9, PIECE_BYTES, 3 * PIECE_BYTES + 9])
async def test_a_download_of_other_bytes_than_were_stored_ends_short(acme, store, size_bytes):
    file = await sync_to_async(keep)(acme, bytes(size_bytes))
    assert b"".join([piece async for piece in pieces(file, open_file(file))]) == bytes(size_bytes)
    (store / file.store_name).write_bytes(b"x" + bytes(size_bytes - 1))
    received = []

    async def download():
        async for piece in pieces(file, open_file(file)):
            received.append(piece)  # noqa: PERF401 - what came before it failed counts

    with pytest.raises(StorageUnavailable):
        await download()
    assert sum(map(len, received)) < size_bytes
