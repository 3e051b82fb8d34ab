"""Converted pages, kept for their workspace: who converts, where the result is, when it goes.

Of any number of requests for the same pages, in whatever processes, one gets the Claim; the others wait for what it makes.
A claim is a lease, so that the one of a process that was killed comes back. Pages are encrypted each for its place.

Invariants: an object is in the storage only under a name that a row holds, which was there first and stays while the object
cannot be deleted; whoever takes a claim over removes what the one before may have written. A storage that fails holds nobody
up: the pages are converted for the request alone. A document counts as converted once, whatever was made of it, and stays so when
its pages are gone.

Everything here blocks. What asks the database alone runs in the threads of `in_thread`, what needs the storage too in those
of `at_storage`.
"""

from __future__ import annotations

import logging
import posixpath
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import ParamSpec, TypeVar

import msgspec
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, storages
from django.db import InterfaceError, OperationalError, close_old_connections
from django.db.models import QuerySet, Sum
from django.utils import timezone

from billing.errors import LedgerUnavailable
from files import storage
from files.models import Document, Rendition
from infery_site import secretbox
from infery_site.ids import random_base62
from infery_site.patience import in_time

USED_EVERY = timedelta(hours=1)
DOCUMENTS_KEPT_FOR = timedelta(days=400)
MOST_AT_ONCE = 200

_MAX_ATTEMPTS = 10

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Sizes = tuple[tuple[float, float], ...]

_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="pages")


class Place(msgspec.Struct, frozen=True):
    """Whose pages, of what, in which form, made by what."""

    workspace_id: int
    digest: str
    form: str
    engine: str


class Known(msgspec.Struct, frozen=True):
    """What is known of a document: the sizes of its pages, and whether they were converted before."""

    sizes: Sizes
    is_converted: bool


class Claim(msgspec.Struct, frozen=True):
    """The right to convert: ended by `keep` or `release`. Without a token nothing is kept of what is converted."""

    place: Place
    token: str
    object_name: str


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` with the care for connections that Django gives to its own requests only.

    Raises LedgerUnavailable without a database.
    """

    def with_sound_connection() -> T:
        close_old_connections()
        try:
            return work(*args, **kwargs)
        finally:
            close_old_connections()

    try:
        return await sync_to_async(with_sound_connection, thread_sensitive=False, executor=_threads)()
    except (OperationalError, InterfaceError) as error:
        raise LedgerUnavailable from error


async def look_up(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The same for what asks the database and nobody else, whose silence is then a fault. Raises LedgerUnavailable."""
    try:
        return await in_time(in_thread(work, *args, **kwargs))
    except OperationalError as error:
        raise LedgerUnavailable from error


async def at_storage(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` where it may wait for the storage. A claim that comes too late for whoever asked for it is given back.

    Raises LedgerUnavailable without a database, StorageUnavailable.
    """
    try:
        return await storage.in_time(partial(work, *args, **kwargs), undo=_give_back)
    except (OperationalError, InterfaceError) as error:
        raise LedgerUnavailable from error


def _give_back(found: object) -> None:
    if isinstance(found, Claim):
        release(found)


def known(workspace_id: int, digest: str, engine: str) -> Known | None:
    """What is known of a document that this engine has looked at before."""
    document = Document.objects.filter(workspace_id=workspace_id, digest=digest, engine=engine).first()
    if document is None:
        return None
    _mark_used(document)
    return Known(tuple((width, height) for width, height in document.page_sizes), document.converted_at is not None)


def note_sizes(workspace_id: int, digest: str, engine: str, sizes: Sizes) -> Known:
    document, _ = Document.objects.update_or_create(
        workspace_id=workspace_id,
        digest=digest,
        defaults={"engine": engine, "page_sizes": sizes, "used_at": timezone.now()},
    )
    return Known(sizes, document.converted_at is not None)


def find_or_claim(place: Place) -> list[bytes] | Claim | None:
    """The pages, or the right to make them; None while another process is at it."""
    try:
        return _find_or_claim(place)
    except OSError:
        logger.exception("The storage of pages failed; they are converted for this request alone")
        return Claim(place, "", "")


def _find_or_claim(place: Place) -> list[bytes] | Claim | None:
    """Raises OSError where the storage fails."""
    document = Document.objects.get(workspace_id=place.workspace_id, digest=place.digest)
    rows = Rendition.objects.filter(document=document, form=place.form, engine=place.engine)
    for _ in range(_MAX_ATTEMPTS):
        row = rows.first()
        if row is None:
            fresh = _fresh(document, place)
            Rendition.objects.bulk_create([fresh], ignore_conflicts=True)
            if rows.filter(lease_token=fresh.lease_token).exists():
                return Claim(place, fresh.lease_token, fresh.object_name)
        elif row.is_complete:
            if (pages := _read(row, place)) is not None:
                _mark_used(row)
                return pages
            _remove(row)
        elif row.lease_expires_at > timezone.now():
            return None
        else:
            _remove(row)  # of a process that died
    return None


def _fresh(document: Document, place: Place) -> Rendition:
    token = random_base62(22)
    return Rendition(
        document=document,
        form=place.form,
        engine=place.engine,
        lease_token=token,
        lease_expires_at=timezone.now() + timedelta(seconds=settings.CONVERSION_LEASE_S),
        object_name=f"{place.workspace_id}/{place.digest[:2]}/{place.digest}-{place.form}-{token}",
    )


def keep(claim: Claim, pages: Sequence[bytes]) -> None:
    """Store what was made under a claim, or release it. One that was lost meanwhile stores nothing."""
    try:
        _keep(claim, pages)
    except BaseException:
        release(claim)
        raise


def _keep(claim: Claim, pages: Sequence[bytes]) -> None:
    if not _claimed(claim).exists():
        return
    tokens = [secretbox.encrypt(page, context=_context(claim.place, number)) for number, page in enumerate(pages)]
    data = msgspec.msgpack.encode(tokens)
    saved_as = _storage().save(claim.object_name, ContentFile(data))
    is_kept = saved_as == claim.object_name and _claimed(claim).update(
        is_complete=True, size_bytes=len(data), used_at=timezone.now()
    )
    if not is_kept:
        _storage().delete(saved_as)


def release(claim: Claim) -> None:
    """Give the right back. Does nothing to what was kept."""
    for row in _claimed(claim):
        if not _is_removed(row):
            _claimed(claim).update(lease_expires_at=timezone.now())


def count_new(workspace_id: int, digest: str) -> int:
    """How many pages of a document are used converted for the first time: all of them, and from then on none."""
    rows = Document.objects.filter(workspace_id=workspace_id, digest=digest)
    if not rows.filter(converted_at=None).update(converted_at=timezone.now()):
        return 0
    return len(rows.values_list("page_sizes", flat=True).get())


def purge() -> int:
    """Remove pages that nobody asked for in a long time, what dead processes left, and the oldest of too many.

    A bounded number of each, for housekeeping. Gives how many. Raises StorageUnavailable if the storage deletes nothing.
    """
    now = timezone.now()
    complete = Rendition.objects.filter(is_complete=True)
    unused = complete.filter(used_at__lt=now - timedelta(seconds=settings.PAGES_KEPT_S))
    abandoned = Rendition.objects.filter(is_complete=False, lease_expires_at__lt=now)
    rows = {row.pk: row for some in (unused, abandoned) for row in some[:MOST_AT_ONCE]}
    kept_bytes = complete.aggregate(total=Sum("size_bytes"))["total"] or 0
    excess_bytes = kept_bytes - sum(row.size_bytes for row in rows.values()) - settings.PAGES_MAX_BYTES
    for row in complete.exclude(pk__in=list(rows)).order_by("used_at")[: MOST_AT_ONCE if excess_bytes > 0 else 0]:
        if excess_bytes > 0:
            excess_bytes -= row.size_bytes
            rows[row.pk] = row
    forgotten = Document.objects.filter(used_at__lt=now - DOCUMENTS_KEPT_FOR, renditions=None)
    Document.objects.filter(pk__in=list(forgotten.values_list("pk", flat=True)[:MOST_AT_ONCE])).delete()
    # In any order, so that those which no round can delete do not stand before all others for ever.
    return storage.destroy_each(random.sample(list(rows.values()), len(rows)), _is_removed)


def stored_names() -> Iterator[str]:
    """The name of every object in the storage. Raises StorageUnavailable."""
    with storage.answered("list"):
        yield from _names_below("")


def _names_below(folder: str) -> Iterator[str]:
    try:
        folders, names = _storage().listdir(folder)
    except FileNotFoundError:
        return
    yield from (posixpath.join(folder, name) for name in names)
    for name in folders:
        yield from _names_below(posixpath.join(folder, name))


def destroy_orphans(names: Sequence[str]) -> int:
    """Destroy the objects of these names that no row holds. Gives how many. Raises StorageUnavailable."""
    # Asked after the names were listed: a row is there before its object.
    orphans = sorted(set(names) - set(Rendition.objects.filter(object_name__in=names).values_list("object_name", flat=True)))
    with storage.answered("destroy"):
        for name in orphans:
            _storage().delete(name)
    return len(orphans)


def _read(row: Rendition, place: Place) -> list[bytes] | None:
    """The pages of a row; None if they are gone, damaged, or encrypted with a key that is gone. Raises OSError."""
    try:
        with _storage().open(row.object_name) as file:
            tokens = msgspec.msgpack.decode(file.read(), type=list[bytes])
        return [secretbox.decrypt(token, context=_context(place, number)) for number, token in enumerate(tokens)]
    except (FileNotFoundError, msgspec.MsgspecError, secretbox.SecretError):
        logger.warning("Pages that were kept cannot be read; they are converted anew")
        return None


def _remove(row: Rendition) -> None:
    """The object first: a row without one is noticed, an object without a row is not. Raises OSError."""
    _storage().delete(row.object_name)
    Rendition.objects.filter(pk=row.pk, lease_token=row.lease_token).delete()


def _is_removed(row: Rendition) -> bool:
    """Removed now; False if the storage could not."""
    try:
        _remove(row)
    except OSError:
        logger.exception("Pages could not be deleted from the storage")
        return False
    return True


def _claimed(claim: Claim) -> QuerySet[Rendition]:
    return Rendition.objects.filter(object_name=claim.object_name, lease_token=claim.token, is_complete=False)


def _mark_used(row: Document | Rendition) -> None:
    """Seldom, so that reading is not writing."""
    now = timezone.now()
    type(row)._default_manager.filter(pk=row.pk, used_at__lt=now - USED_EVERY).update(used_at=now)


def _context(place: Place, number: int) -> str:
    return f"pages:{place.workspace_id}:{place.digest}:{place.form}:{number}"


def _storage() -> Storage:
    return storages["pages"]
