"""What a request carries besides its parameters: how much text, and its media, judged once and made ready for everybody.

    text.py     how much text                   images.py   inline images
    inline.py   `data:` URIs and base64         media.py    audio and files
    pages.py    PDFs: pages, text, images       room.py     how much memory all requests take

Media count only by their own bytes, never by what is said of them. Images named by URL are fetched, audio that no provider
takes is turned into WAV, files are read and get one shape: `parts` holds what goes out in the place of a part, so that every attempt
sends the same bytes. An image that some dialect of the route does not take is there in a form that all take, too. Everything else
goes to the provider as it came.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from billing.limits import Limiter
from chat.adapt import MOST_IMAGE_BYTES, takes_image
from chat.content import media
from chat.content.images import inspect
from chat.content.inline import decode_data_uri
from chat.content.pages import Opened, RequestPages, opened, prepared
from chat.content.room import Room, Stay
from chat.content.text import text_bytes
from chat.errors import InvalidRequest
from chat.schema.content import Audio, Content, Image
from chat.schema.request import AudioPart, ChatRequest, FilePart, ImagePart, Message, Part
from chat.schema.route import Dialect, Route
from chat.states import recall
from files.documents import Documents
from files.images import convert_image
from files.models import StoredFile
from files.reading import find_file, read_file
from files.sandbox import Sandbox
from infery_site.errors import ApiError, ContentError
from infery_site.fetch import Fetcher

MAX_IMAGES = 100
MAX_URLS = 20
URLS_AT_ONCE = 5
MAX_CONTENT_BYTES = 50 * 1024 * 1024
MAX_FILE_BYTES = 20 * 1024 * 1024
THREAD_FROM_CHARACTERS = 256 * 1024
REPAINTING_S = 60.0
"""What the images of a request may take together to be made anew, as the pages of a document may."""
FETCHES_PER_MINUTE = 60
"""Of one workspace from one host, so that no stranger is flooded from here."""

Place = tuple[int, int]

__all__ = ["Resolver", "prepared"]


class ImagesTakeTooLong(ApiError):
    def __init__(self) -> None:
        message = "The images take too long to be made ready for the model's provider. Send fewer, or as PNG or JPEG."
        super().__init__(413, "request_too_large", message, param="messages")


class _Gathered:
    """What was resolved so far. The sum of all media is bounded, and counted before any of it is read."""

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
        self._sizes_bytes: dict[Place, int] = {}
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def count(self, place: Place, size_bytes: int, param: str) -> None:
        """Of one part; what was said of it before counts no more. Raises a 413."""
        self.count_more(size_bytes - self._sizes_bytes.get(place, 0), param)
        self._sizes_bytes[place] = size_bytes

    def count_more(self, size_bytes: int, param: str) -> None:
        self._size_bytes += size_bytes
        if self._size_bytes > MAX_CONTENT_BYTES:
            message = f"The images, audio and files take more than {MAX_CONTENT_BYTES // 1024**2} MB in all."
            raise ApiError(413, "request_too_large", message, param=param)


class Resolver:
    """One per process and event loop. Work that takes long runs in threads and children, so that other requests go on."""

    def __init__(self, fetcher: Fetcher, limiter: Limiter, sandbox: Sandbox, documents: Documents) -> None:
        self._fetcher = fetcher
        self._limiter = limiter
        self._sandbox = sandbox
        self._documents = documents
        self._room = Room()

    def start(self) -> None:
        """From here on whoever looks at a file in the console shares its conversions with requests."""
        Documents.serving = self._documents

    def stop(self) -> None:
        if Documents.serving is self._documents:
            Documents.serving = None

    def stay(self, workspace_id: int) -> Stay:
        """What a request of the workspace enters before its content is resolved, and leaves when it is answered."""
        return self._room.stay(workspace_id)

    async def resolve(self, request: ChatRequest, route: Route, stay: Stay) -> Content:
        """The content of `request`, and the provider state of the calls it replays where somebody on the route may want it.

        Raises InvalidRequest for media that is broken or of a kind that no model takes, a 413 for more than 20 MB in one
        piece or 50 MB in all, a 429 for too many fetches from one host, a 503 where too much is being converted.
        """
        parts = _media(request.messages)
        if not parts:
            return Content(text_bytes(request), states=await recall(stay.workspace_id, request, route))
        gathered = _Gathered()
        await self._gather(parts, stay, gathered)
        await self._convert(route, stay.workspace_id, gathered)
        return Content(
            text_bytes(request),
            gathered.images,
            gathered.audio,
            documents={place: one.document for place, one in gathered.documents.items()},
            parts=gathered.parts,
            converted=gathered.converted,
            pages=RequestPages(self._documents, gathered.documents) if gathered.documents else None,
            states=await recall(stay.workspace_id, request, route),
        )

    async def _gather(self, parts: dict[Place, Part], stay: Stay, gathered: _Gathered) -> None:
        files = await _files(parts, stay.workspace_id, gathered)
        urls = {place: part for place, part in parts.items() if isinstance(part, ImagePart) and _is_url(part.image_url.url)}
        if len(urls) > MAX_URLS:
            raise InvalidRequest("too_many_images", f"The messages must name at most {MAX_URLS} images by URL.", "messages")
        # What audio becomes is not known before it is heard.
        is_growing = _grows(parts, files)
        most_bytes = MAX_CONTENT_BYTES if is_growing else gathered.size_bytes + len(urls) * MAX_FILE_BYTES
        await stay.take(min(most_bytes, MAX_CONTENT_BYTES))
        fetched: dict[Place, Part] = {**await self._fetched(urls, stay.workspace_id, gathered), **await _read(files)}
        if not is_growing:
            stay.keep(gathered.size_bytes)
        inline = parts | fetched
        judged: dict[Place, Part] = {place: part for place, part in inline.items() if not isinstance(part, AudioPart)}
        is_heavy = sum(map(_weight, judged.values())) > THREAD_FROM_CHARACTERS
        await (asyncio.to_thread(_judge, judged, gathered) if is_heavy else _now(judged, gathered))
        gathered.parts = fetched | gathered.parts
        for place, part in inline.items():
            if isinstance(part, AudioPart):
                await self._hear(place, part, stay.workspace_id, gathered)
        stay.keep(gathered.size_bytes)

    async def _convert(self, route: Route, workspace_id: int, gathered: _Gathered) -> None:
        """What some model or provider of the route does not take as it came."""
        if gathered.pdfs:
            gathered.documents = await opened(self._documents, gathered.pdfs, route, workspace_id)
            gathered.pdfs = {}
        asked = {target.provider.dialect for target in route.steps[0].targets}
        dialects = {target.provider.dialect for step in route.steps for target in step.targets}
        ends_s = time.monotonic() + REPAINTING_S
        for place, image in gathered.images.items():
            if all(takes_image(dialect, image) for dialect in dialects):
                continue
            try:
                if time.monotonic() > ends_s:
                    raise ImagesTakeTooLong
                async with self._documents.turn(workspace_id):
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
        gathered.count_more(len(made.data), param)
        url = media.data_uri(to, base64.b64encode(made.data).decode())
        gathered.converted[place] = msgspec.structs.replace(part, image_url=msgspec.structs.replace(part.image_url, url=url))

    async def _hear(self, place: Place, part: AudioPart, workspace_id: int, gathered: _Gathered) -> None:
        """Judge audio; what no provider takes as it came becomes WAV."""
        param = gathered.fields.get(place) or f"{path(place)}.input_audio.data"
        data, sound = await asyncio.to_thread(media.heard, part.input_audio, param)
        gathered.count(place, len(data), param)
        gathered.audio[place] = Audio(sound.format, sound.duration_s, len(data))
        if sound.format in media.CONVERTED_FORMATS:
            try:
                async with self._documents.turn(workspace_id):
                    made = await media.as_wav(part, data, sound, self._sandbox)
            except ContentError as error:
                raise error.at(param) from None
            # A short reference to a small file may become much of it.
            gathered.count(place, len(made.input_audio.data) // 4 * 3, param)
            gathered.parts[place] = made

    async def _fetched(self, named: dict[Place, ImagePart], workspace_id: int, gathered: _Gathered) -> dict[Place, ImagePart]:
        """The images that are named by URL, inline. After a refusal no more are asked for."""
        at_once = asyncio.Semaphore(URLS_AT_ONCE)
        refusals: dict[Place, ApiError] = {}

        async def one(place: Place, part: ImagePart) -> ImagePart | None:
            async with at_once:
                if refusals:
                    return None
                try:
                    return await self._fetch(place, part, workspace_id, gathered)
                except ApiError as refusal:
                    refusals[place] = refusal
                    return None

        async with asyncio.TaskGroup() as group:
            tasks = {place: group.create_task(one(place, part)) for place, part in named.items()}
        if refusals:
            raise refusals[min(refusals)]
        return {place: image for place, task in tasks.items() if (image := task.result()) is not None}

    async def _fetch(self, place: Place, part: ImagePart, workspace_id: int, gathered: _Gathered) -> ImagePart:
        param = f"{path(place)}.image_url.url"

        async def before_dial(host: str, addresses: Sequence[str]) -> None:
            await self._count_fetch(workspace_id, {host, *map(_site, addresses)}, param)

        try:
            image = await self._fetcher.fetch_image(part.image_url.url, before_dial=before_dial, asker=workspace_id)
        except ContentError as error:
            raise error.at(param) from None
        gathered.count(place, len(image.data), param)
        url = media.data_uri(image.media_type, base64.b64encode(image.data).decode())
        return msgspec.structs.replace(part, image_url=msgspec.structs.replace(part.image_url, url=url))

    async def _count_fetch(self, workspace_id: int, sites: set[str], param: str) -> None:
        """By the host and by each address that it has: many names may lead to one stranger."""
        counting = [self._limiter.wait_s(f"fetches:{workspace_id}:{site}", FETCHES_PER_MINUTE) for site in sites]
        if wait_s := max(await asyncio.gather(*counting)):
            message = f"At most {FETCHES_PER_MINUTE} images a minute are fetched from one host. Send them inline."
            raise ApiError(429, "rate_limit_exceeded", message, param=param, headers=[("retry-after", str(wait_s))])


def _grows(parts: dict[Place, Part], files: dict[Place, _Named]) -> bool:
    """Whether there is audio that is converted, and so becomes much more than it is."""
    inline = {part.input_audio.format for part in parts.values() if isinstance(part, AudioPart)}
    return not media.CONVERTED_FORMATS.isdisjoint(inline) or any(one.file.media_type == media.WEBM for one in files.values())


class _Named(NamedTuple):
    """A part that names a stored file, and the field in which it does."""

    part: FilePart
    file: StoredFile
    param: str


async def _files(parts: dict[Place, Part], workspace_id: int, gathered: _Gathered) -> dict[Place, _Named]:
    """The stored files that are named. An unknown, a deleted and a foreign id are answered by equal bytes."""
    named: dict[Place, _Named] = {}
    found: dict[str, StoredFile] = {}
    for place, part in parts.items():
        if not isinstance(part, FilePart) or (stored := media.reference(part, path(place))) is None:
            continue
        file_id, param = stored
        gathered.fields[place] = param
        try:
            if file_id not in found:
                found[file_id] = await find_file(workspace_id, file_id, most_bytes=MAX_FILE_BYTES)
        except ContentError as error:
            raise error.at(param) from None
        gathered.count(place, found[file_id].size_bytes, param)
        named[place] = _Named(part, found[file_id], param)
    return named


async def _read(files: dict[Place, _Named]) -> dict[Place, FilePart | ImagePart | AudioPart]:
    """The parts with the bytes in them; each file is read once."""
    read: dict[int, FilePart | ImagePart | AudioPart] = {}
    inline: dict[Place, FilePart | ImagePart | AudioPart] = {}
    for place, named in files.items():
        try:
            if named.file.pk not in read:
                content = await read_file(named.file)
                read[named.file.pk] = media.stored(content.data, content.filename)
        except ContentError as error:
            raise error.at(named.param) from None
        inline[place] = msgspec.structs.replace(read[named.file.pk], cache_control=named.part.cache_control)
    return inline


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


def _site(address: str) -> str:
    """An address, or of IPv6 the network in which one machine has them all."""
    judged = ipaddress.ip_address(address)
    return str(judged if judged.version == 4 else ipaddress.ip_network((judged, 64), strict=False))


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
    gathered.count(place, len(data), param)


def _judge_file(place: Place, part: FilePart, gathered: _Gathered) -> None:
    pdf, gathered.parts[place] = media.pdf(part, path(place), gathered.fields.get(place))
    gathered.pdfs[place] = pdf
    gathered.count(place, len(pdf.data), pdf.param)
