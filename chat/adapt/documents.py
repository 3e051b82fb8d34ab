"""PDFs for models that do not read them: their text, and images of their pages where the model sees (pure)."""

from __future__ import annotations

import msgspec

from chat.errors import UnsupportedParameter
from chat.schema.content import Content, Document
from chat.schema.request import FilePart, ImagePart, ImageUrl, Part, TextPart
from chat.schema.route import ModelInfo
from infery_site.errors import quoted

_NO_TEXT = "(no text)"


def is_converting(content: Content, model: ModelInfo) -> bool:
    """Whether `model` gets the documents of `content` in another form than their own."""
    return bool(content.documents) and "pdf" not in model.capabilities


def conversion(content: Content, model: ModelInfo) -> str:
    """What is told of it."""
    if "vision" not in model.capabilities:
        return "pdf=text"
    return f"pdf=text+pages:{sum([len(document.page_sizes) for document in content.documents.values()])}"


def converted(part: FilePart, document: Document, model: ModelInfo, param: str) -> list[Part]:
    """The parts that go out in the place of a document: its text, then its images as far as they are there.

    Raises UnsupportedParameter for one that the model could read nothing of.
    """
    sees = "vision" in model.capabilities
    if document.texts is None:
        raise UnsupportedParameter(
            param, f"The model {quoted(model.slug)} does not take PDFs, and this one cannot be converted."
        )
    if document.is_scan and not sees:
        message = f"The PDF has no text, and the model {quoted(model.slug)} does not see images. Ask a model with vision."
        raise UnsupportedParameter(param, message)
    images = document.images if sees else ()
    parts: list[Part] = [TextPart(spoken(document)), *[ImagePart(ImageUrl(image)) for image in images]]
    if part.cache_control is not None:
        parts[-1] = msgspec.structs.replace(parts[-1], cache_control=part.cache_control)
    return parts


def spoken(document: Document) -> str:
    """The text of a document, page by page, as a model is told it."""
    texts = document.texts or ()
    count = "1 page" if len(texts) == 1 else f"{len(texts)} pages"
    pages = [f"Page {number}:\n{text.strip() or _NO_TEXT}" for number, text in enumerate(texts, start=1)]
    return "\n\n".join([f"The file {document.filename} has {count}.", *pages])
