"""What a request carries besides its parameters: how much text, and its media, judged once and made ready for everybody.

    text.py     how much text                   images.py   inline images
    inline.py   `data:` URIs and base64         media.py    audio and files
    pages.py    PDFs: pages, text, images

Media count only by their own bytes, never by what is said of them. Images named by URL are fetched, audio that no provider
takes is turned into WAV, files are read and get one shape: `parts` holds what goes out in the place of a part, so that every attempt
sends the same bytes. An image that some dialect of the route does not take is there in a form that all take, too. Everything else
goes to the provider as it came.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections import deque
from collections.abc import Awaitable
from typing import Literal

import msgspec

from chat.adapt import MOST_IMAGE_BYTES, takes_image
from chat.content import media
from chat.content.images import inspect
from chat.content.inline import decode_data_uri
from chat.content.pages import Opened, RequestPages, opened, prepared
from chat.content.text import text_bytes
from chat.errors import InvalidRequest
from chat.schema.content import Audio, Content, Image
from chat.schema.request import AudioPart, ChatRequest, FilePart, ImagePart, Message, Part
from chat.schema.route import Dialect, Route
from chat.states import recall
from files.documents import Documents
from files.images import convert_image
from files.reading import read_file
from files.sandbox import Sandbox
from infery_site.errors import ApiError, ContentError
from infery_site.fetch import Fetcher

MAX_IMAGES = 100
MAX_URLS = 20
URLS_AT_ONCE = 5
MAX_CONTENT_BYTES = 50 * 1024 * 1024
MAX_FILE_BYTES = 20 * 1024 * 1024
THREAD_FROM_CHARACTERS = 256 * 1024
FETCHES_PER_MINUTE = 60
"""Of one workspace from one host, so that no stranger is flooded from here."""

Place = tuple[int, int]

__all__ = ["Resolver", "prepared"]


class _Gathered:
    """What was resolved so far. The sum of all media is bounded."""

    def __init__(self) -> None:
        self.images: dict[Place, Image] = {}
        self.pictures: dict[Place, ImagePart] = {}
        self.audio: dict[Place, Audio] = {}
        self.pdfs: dict[Place, media.Pdf] = {}
        self.documents: dict[Place, Opened] = {}
        self.parts: dict[Place, Part] = {}
        self.converted: dict[Place, Part] = {}
        self.fields: dict[Place, str] = {}
        """The fields that name stored files."""
        self._size_bytes = 0

    def count(self, size_bytes: int, param: str) -> None:
        self._size_bytes += size_bytes
        if self._size_bytes > MAX_CONTENT_BYTES:
            message = f"The images, audio and files take more than {MAX_CONTENT_BYTES // 1024**2} MB in all."
            raise ApiError(413, "request_too_large", message, param=param)


class Resolver:
    """One per process and event loop. Work that takes long runs in threads and children, so that other requests go on."""

    def __init__(self, fetcher: Fetcher, sandbox: Sandbox, documents: Documents) -> None:
        self._fetcher = fetcher
        self._sandbox = sandbox
        self._documents = documents
        self._fetches: dict[tuple[int, str], deque[float]] = {}

    async def resolve(self, request: ChatRequest, route: Route, workspace_id: int) -> Content:
        """The content of `request`, and the provider state of the calls it replays where somebody on the route may want it.

        Raises InvalidRequest for media that is broken or of a kind that no model takes, a 413 for more than 20 MB in one
        piece or 50 MB in all, a 429 for too many fetches from one host, a 503 where too much is being converted.
        """
        gathered = _Gathered()
        parts = _media(request.messages)
        if parts:
            await self._gather(parts, workspace_id, gathered)
            await self._convert(route, workspace_id, gathered)
        return Content(
            text_bytes(request),
            gathered.images,
            gathered.audio,
            documents={place: one.document for place, one in gathered.documents.items()},
            parts=gathered.parts,
            converted=gathered.converted,
            pages=RequestPages(self._documents, gathered.documents) if gathered.documents else None,
            states=await recall(workspace_id, request, route),
        )

    async def _gather(self, parts: dict[Place, Part], workspace_id: int, gathered: _Gathered) -> None:
        fetched: dict[Place, Part] = {**await self._fetched(parts, workspace_id)}
        for place, part in parts.items():
            if isinstance(part, FilePart):
                fetched[place] = await _inline(part, workspace_id, place, gathered)
        judged: dict[Place, Part] = {
            place: fetched.get(place, part) for place, part in parts.items() if not isinstance(part, AudioPart)
        }
        is_heavy = sum(map(_weight, judged.values())) > THREAD_FROM_CHARACTERS
        await (asyncio.to_thread(_judge, judged, gathered) if is_heavy else _now(judged, gathered))
        gathered.parts = fetched | gathered.parts
        for place, part in parts.items():
            if isinstance(part, AudioPart):
                await self._hear(place, part, gathered)

    async def _convert(self, route: Route, workspace_id: int, gathered: _Gathered) -> None:
        """What some model or provider of the route does not take as it came."""
        if gathered.pdfs:
            gathered.documents = await opened(self._documents, gathered.pdfs, route, workspace_id)
            gathered.pdfs = {}
        asked = {target.provider.dialect for target in route.steps[0].targets}
        dialects = {target.provider.dialect for step in route.steps for target in step.targets}
        for place, image in gathered.images.items():
            if all(takes_image(dialect, image) for dialect in dialects):
                continue
            try:
                await self._repaint(place, image, dialects, gathered)
            except ApiError:
                # Only a fallback would need it, and is left out.
                if not all(takes_image(dialect, image) for dialect in asked):
                    raise

    async def _repaint(self, place: Place, image: Image, dialects: set[Dialect], gathered: _Gathered) -> None:
        """One that all of them take: as PNG, or where it is large as JPEG, which is made smaller faster."""
        part, param = gathered.pictures[place], gathered.fields.get(place) or f"{path(place)}.image_url.url"
        _, data = decode_data_uri(part.image_url.url, param)
        most_bytes = min(MOST_IMAGE_BYTES[dialect] for dialect in dialects)
        to: Literal["image/png", "image/jpeg"] = "image/jpeg" if image.size_bytes > most_bytes else "image/png"
        try:
            made = await convert_image(data, to, sandbox=self._sandbox, max_bytes=most_bytes)
        except ContentError as error:
            raise error.at(param) from None
        gathered.count(len(made.data), param)
        url = media.data_uri(to, base64.b64encode(made.data).decode())
        gathered.converted[place] = msgspec.structs.replace(part, image_url=msgspec.structs.replace(part.image_url, url=url))

    async def _hear(self, place: Place, part: AudioPart, gathered: _Gathered) -> None:
        """Judge audio; what no provider takes as it came becomes WAV."""
        param = f"{path(place)}.input_audio.data"
        data, sound = await asyncio.to_thread(media.heard, part.input_audio, param)
        gathered.count(len(data), param)
        gathered.audio[place] = Audio(sound.format, sound.duration_s, len(data))
        if sound.format in media.CONVERTED_FORMATS:
            try:
                gathered.parts[place] = await media.as_wav(part, data, sound, self._sandbox)
            except ContentError as error:
                raise error.at(param) from None

    async def _fetched(self, parts: dict[Place, Part], workspace_id: int) -> dict[Place, ImagePart]:
        """The images that are named by URL, inline."""
        named = {place: part for place, part in parts.items() if isinstance(part, ImagePart) and _is_url(part.image_url.url)}
        if not named:
            return {}
        if len(named) > MAX_URLS:
            raise InvalidRequest("too_many_images", f"The messages must name at most {MAX_URLS} images by URL.", "messages")
        at_once = asyncio.Semaphore(URLS_AT_ONCE)

        async def one(place: Place, part: ImagePart) -> ImagePart:
            async with at_once:
                return await self._fetch(part, workspace_id, f"{path(place)}.image_url.url")

        async with asyncio.TaskGroup() as group:
            tasks = {place: group.create_task(_held(one(place, part))) for place, part in named.items()}
        answers = {place: task.result() for place, task in tasks.items()}
        refusals = [answer for answer in answers.values() if isinstance(answer, ApiError)]
        if refusals:
            raise refusals[0]
        return {place: answer for place, answer in answers.items() if isinstance(answer, ImagePart)}

    async def _fetch(self, part: ImagePart, workspace_id: int, param: str) -> ImagePart:
        async def before_dial(host: str) -> None:
            self._count_fetch(workspace_id, host, param)

        try:
            image = await self._fetcher.fetch_image(part.image_url.url, before_dial=before_dial)
        except ContentError as error:
            raise error.at(param) from None
        url = media.data_uri(image.media_type, base64.b64encode(image.data).decode())
        return msgspec.structs.replace(part, image_url=msgspec.structs.replace(part.image_url, url=url))

    def _count_fetch(self, workspace_id: int, host: str, param: str) -> None:
        now_s = time.monotonic()
        if len(self._fetches) > 10_000:
            self._fetches = {key: times for key, times in self._fetches.items() if times[-1] > now_s - 60}
        times = self._fetches.setdefault((workspace_id, host), deque())
        while times and times[0] <= now_s - 60:
            times.popleft()
        if len(times) >= FETCHES_PER_MINUTE:
            message = f"At most {FETCHES_PER_MINUTE} images a minute are fetched from one host. Send them inline."
            raise ApiError(429, "rate_limit_exceeded", message, param=param, headers=[("retry-after", "60")])
        times.append(now_s)


async def _inline(part: FilePart, workspace_id: int, place: Place, gathered: _Gathered) -> FilePart | ImagePart:
    """The part with the bytes of the file in it. An unknown, a deleted and a foreign id are answered by equal bytes."""
    stored = media.reference(part, path(place))
    if stored is None:
        return part
    file_id, where = stored
    gathered.fields[place] = where
    try:
        file = await read_file(workspace_id, file_id, most_bytes=MAX_FILE_BYTES)
    except ContentError as error:
        raise error.at(where) from None
    return media.stored(part, file.data, file.filename)


async def _held(work: Awaitable[ImagePart]) -> ImagePart | ApiError:
    """A refusal as a value, so that a group of tasks ends with all of them known."""
    try:
        return await work
    except ApiError as refusal:
        return refusal


async def _now(parts: dict[Place, Part], gathered: _Gathered) -> None:
    _judge(parts, gathered)


def _judge(parts: dict[Place, Part], gathered: _Gathered) -> None:
    for place, part in parts.items():
        if isinstance(part, ImagePart):
            _judge_image(place, part, gathered)
        elif isinstance(part, FilePart):
            _judge_file(place, part, gathered)


def path(place: Place) -> str:
    return f"messages[{place[0]}].content[{place[1]}]"


def _is_url(url: str) -> bool:
    return url[:8].partition(":")[0].lower() in {"http", "https"}


def _media(messages: list[Message]) -> dict[Place, Part]:
    """The parts that are no text, in order."""
    parts: dict[Place, Part] = {}
    image_count = 0
    for index, message in enumerate(messages):
        if not isinstance(message.content, list):
            continue
        for position, part in enumerate(message.content):
            if isinstance(part, ImagePart | FilePart | AudioPart):
                parts[index, position] = part
                image_count += isinstance(part, ImagePart)
    if image_count > MAX_IMAGES:
        raise InvalidRequest("too_many_images", f"The messages must have at most {MAX_IMAGES} images in all.", "messages")
    return parts


def _weight(part: Part) -> int:
    if isinstance(part, ImagePart):
        return len(part.image_url.url)
    source = part.file if isinstance(part, FilePart) else None
    return 0 if source is None else len(source.file_data or source.data or "")


def _judge_image(place: Place, part: ImagePart, gathered: _Gathered) -> None:
    param = gathered.fields.get(place) or f"{path(place)}.image_url.url"
    media_type, data = decode_data_uri(part.image_url.url, param)
    if len(gathered.images) == MAX_IMAGES:
        raise InvalidRequest("too_many_images", f"The messages must have at most {MAX_IMAGES} images in all.", "messages")
    gathered.images[place] = inspect(data, media_type, param)
    gathered.pictures[place] = part
    gathered.count(len(data), param)


def _judge_file(place: Place, part: FilePart, gathered: _Gathered) -> None:
    pdf, gathered.parts[place] = media.pdf(part, path(place), gathered.fields.get(place))
    gathered.pdfs[place] = pdf
    gathered.count(len(pdf.data), pdf.param)
