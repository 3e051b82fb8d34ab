"""A store that hangs takes down what needs it, after a time that is known, and nothing else."""

from __future__ import annotations

import asyncio
import time

import pytest
from asgiref.sync import sync_to_async

from billing.apikeys import KeyWatch, revoke
from billing.errors import InvalidApiKey
from files import pages
from files.api.uploading import Uploads
from files.errors import FileNotFound, StorageUnavailable
from files.models import Rendition, StoredFile
from files.pages import Place
from files.reading import find_file, read_file
from tests.unit.files.kept import keep
from tests.worlds import make_world

pytestmark = pytest.mark.django_db(transaction=True)

CROWD = 40
PROMPT_S = 2.0


@pytest.fixture
def acme(troubled_store, settings):
    settings.STORE_TOTAL_S = 0.3
    return make_world("Acme", credits=0)


async def hanging(work, troubled_store):
    """A crowd of `work` that waits in the store."""
    troubled_store.begin()
    crowd = [asyncio.create_task(work()) for _ in range(CROWD)]
    assert await sync_to_async(troubled_store.is_met.wait)(20)
    return crowd


async def test_a_read_from_a_store_that_hangs_is_given_up_and_costs_no_other_request(acme, troubled_store):
    file = await sync_to_async(keep)(acme)
    crowd = await hanging(lambda: read_file(file), troubled_store)
    begun_s = time.monotonic()
    assert await asyncio.to_thread(lambda: "work of others") == "work of others"
    with pytest.raises(FileNotFound):
        await find_file(acme.workspace.pk, "file_" + "0" * 22, most_bytes=99)
    assert time.monotonic() - begun_s < PROMPT_S
    outcomes = await asyncio.gather(*crowd, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
    assert dict(outcomes[0].headers)["retry-after"] == "5"
    troubled_store.end()
    assert (await read_file(file)).data == b"some text"


async def test_a_key_is_revoked_while_the_store_hangs(acme, troubled_store):
    file = await sync_to_async(keep)(acme)
    watch = KeyWatch(every_s=0.05)
    await watch.start()
    crowd = await hanging(lambda: read_file(file), troubled_store)

    async def stream():
        async with watch.over(acme.key.pk):
            await sync_to_async(revoke)(acme.key, actor="tests")
            await asyncio.Event().wait()

    with pytest.raises(InvalidApiKey):
        await asyncio.wait_for(stream(), PROMPT_S)
    await watch.stop()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_what_is_known_of_a_document_is_found_while_the_storage_of_pages_hangs(acme, troubled_store, settings):
    place = Place(acme.workspace.pk, "a" * 64, "text", "engine-1")
    await pages.in_thread(pages.note_sizes, place.workspace_id, place.digest, place.engine, ((1.0, 1.0),))
    await pages.at_storage(pages.keep, await pages.at_storage(pages.find_or_claim, place), [b"page"])
    crowd = await hanging(lambda: pages.at_storage(pages.find_or_claim, place), troubled_store)
    begun_s = time.monotonic()
    assert await pages.look_up(pages.known, place.workspace_id, place.digest, place.engine)
    assert time.monotonic() - begun_s < PROMPT_S
    assert {type(outcome) for outcome in await asyncio.gather(*crowd, return_exceptions=True)} == {StorageUnavailable}


async def test_a_claim_that_comes_too_late_is_given_back(acme, troubled_store):
    place = Place(acme.workspace.pk, "a" * 64, "text", "engine-1")
    await pages.in_thread(pages.note_sizes, place.workspace_id, place.digest, place.engine, ((1.0, 1.0),))
    await pages.at_storage(pages.find_or_claim, place)
    await Rendition.objects.aupdate(lease_expires_at="2000-01-01T00:00Z")
    troubled_store.begin()
    with pytest.raises(StorageUnavailable):
        await pages.at_storage(pages.find_or_claim, place)
    troubled_store.end()
    for _ in range(250):
        if not await Rendition.objects.aexists():
            return
        await asyncio.sleep(0.02)
    pytest.fail("the claim is still there")


@pytest.mark.slow
async def test_an_upload_is_judged_while_others_wait_for_the_store(acme, troubled_store):
    uploads = Uploads(None)
    crowd = await hanging(lambda: upload(uploads, acme.key_text), troubled_store)
    begun_s = time.monotonic()
    assert await upload(uploads, "no key") == 401
    assert time.monotonic() - begun_s < PROMPT_S
    troubled_store.end()
    assert await asyncio.gather(*crowd) == [200] * CROWD
    assert await StoredFile.objects.filter(state="ready").acount() == CROWD


async def upload(uploads, key):
    """The status that one small file is answered with."""
    head = '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--x\r\nContent-Disposition: form-data; '
    body = (head + 'name="file"; filename="a.txt"\r\n\r\ntext\r\n--x--\r\n').encode()
    sent = []
    await uploads(
        {
            "type": "http",
            "method": "POST",
            "path": "/v1/files",
            "headers": [
                (b"host", b"localhost"),
                (b"authorization", f"Bearer {key}".encode()),
                (b"content-type", b"multipart/form-data; boundary=x"),
            ],
        },
        lambda: asyncio.sleep(0, {"type": "http.request", "body": body, "more_body": False}),
        lambda message: asyncio.sleep(0, sent.append(message)),
    )
    return sent[0]["status"]
