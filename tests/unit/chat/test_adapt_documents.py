"""PDFs for models that do not read them, and images in a format that a dialect does not take."""

from __future__ import annotations

import msgspec
import pytest

from chat.adapt import adapt
from chat.errors import UnsupportedParameter
from chat.providers.base import Asked
from chat.providers.registry import ADAPTERS
from chat.schema.content import Content, Document, Image
from chat.schema.request import CacheControl, FilePart, FileSource, ImagePart, ImageUrl, TextPart, UserMessage
from tests.unit.chat.values import EVERYTHING, PROVIDER, TENANT, model, request, target

READING, SEEING, BLIND = EVERYTHING | {"pdf"}, EVERYTHING, EVERYTHING - {"vision"}
LETTER = (1583, 2048)
URI = "data:application/pdf;base64,JVBERi0="
SHAPED = FilePart(FileSource(file_data=URI, filename="a.pdf"))
PAGES = ("data:image/jpeg;base64,AAAA", "data:image/jpeg;base64,BBBB")
TOLD = Document("a.pdf", 9, (LETTER, LETTER), (" First\n", ""))
SAID = "The file a.pdf has 2 pages.\n\nPage 1:\nFirst\n\nPage 2:\n(no text)"
BLANK = msgspec.structs.replace(TOLD, texts=("", " \n"))
BEFORE, AFTER = TextPart("What does it say?"), TextPart("Be brief.")


def with_file(part=SHAPED):
    return request(messages=[UserMessage([BEFORE, part, AFTER])])


def content(document=TOLD, **fields):
    return Content(5, documents={(0, 1): document}, parts={(0, 1): SHAPED}, **fields)


def fitted(asked, given, capabilities, dialect="openai"):
    provider = msgspec.structs.replace(PROVIDER, dialect=dialect)
    aimed = msgspec.structs.replace(target(), provider=provider)
    adapted = adapt(asked, given, model(capabilities=capabilities), aimed)
    return adapted.request.messages[0].content, adapted.changes


def test_a_model_that_reads_pdfs_gets_the_file():
    assert fitted(with_file(), content(), READING) == ([BEFORE, SHAPED, AFTER], ())


def test_a_model_that_sees_gets_text_and_then_images_in_the_place_of_the_file():
    shown = msgspec.structs.replace(TOLD, images=PAGES)
    images = [ImagePart(ImageUrl(page)) for page in PAGES]
    assert fitted(with_file(), content(shown), SEEING) == ([BEFORE, TextPart(SAID), *images, AFTER], ("pdf=text+pages:2",))


def test_what_is_promised_before_there_are_images_is_the_same():
    assert fitted(with_file(), content(), SEEING) == ([BEFORE, TextPart(SAID), AFTER], ("pdf=text+pages:2",))


def test_a_model_that_does_not_see_gets_the_text_only():
    shown = msgspec.structs.replace(TOLD, images=PAGES)
    assert fitted(with_file(), content(shown), BLIND) == ([BEFORE, TextPart(SAID), AFTER], ("pdf=text",))


def test_a_scan_is_for_models_that_see():
    with pytest.raises(UnsupportedParameter) as refusal:
        fitted(with_file(), content(BLANK), BLIND)
    assert refusal.value.param == "messages[0].content[1]"
    assert "has no text" in refusal.value.message
    assert fitted(with_file(), content(BLANK), SEEING)[1] == ("pdf=text+pages:2",)
    assert fitted(with_file(), content(BLANK), READING)[1] == ()


def test_a_document_that_cannot_be_converted_is_for_models_that_read_it():
    lost = msgspec.structs.replace(TOLD, texts=None)
    with pytest.raises(UnsupportedParameter) as refusal:
        fitted(with_file(), content(lost), SEEING)
    assert refusal.value.param == "messages[0].content[1]"
    assert fitted(with_file(), content(lost), READING)[1] == ()


def test_several_documents_are_told_of_together():
    asked = request(messages=[UserMessage([SHAPED, SHAPED])])
    given = Content(5, documents={(0, 0): TOLD, (0, 1): TOLD}, parts={(0, 0): SHAPED, (0, 1): SHAPED})
    assert fitted(asked, given, SEEING)[1] == ("pdf=text+pages:4",)
    assert fitted(asked, given, BLIND)[1] == ("pdf=text",)


@pytest.mark.parametrize("images", [(), PAGES], ids=["text", "images"])
def test_a_mark_of_the_prompt_cache_stands_behind_all_of_a_document(images):
    part = msgspec.structs.replace(SHAPED, cache_control=CacheControl("ephemeral"))
    shown = msgspec.structs.replace(TOLD, images=images)
    parts, changes = fitted(with_file(part), content(shown), SEEING, "anthropic")
    assert [one.cache_control is not None for one in parts] == [False] * (1 + len(images)) + [True, False]
    assert changes == ("pdf=text+pages:2",)


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
def test_every_dialect_can_say_what_a_document_became(dialect):
    """Its name stands in its text, so that it is not lost where files have none."""
    provider = msgspec.structs.replace(PROVIDER, dialect=dialect)
    aimed = msgspec.structs.replace(target(), provider=provider)
    one = model(capabilities=SEEING)
    adapted = adapt(with_file(), content(msgspec.structs.replace(TOLD, images=PAGES)), one, aimed)
    body = ADAPTERS[provider.dialect].build(Asked(adapted.request, one, aimed, TENANT)).body.decode()
    assert [body.index(text) for text in ("What does it say?", "a.pdf", "First", "AAAA", "BBBB", "Be brief.")] == sorted(
        [body.index(text) for text in ("What does it say?", "a.pdf", "First", "AAAA", "BBBB", "Be brief.")]
    )
    assert "JVBERi0=" not in body
    assert adapted.changes == ("pdf=text+pages:2",)


GIF = ImagePart(ImageUrl("data:image/gif;base64,R0lG", "low"))
PNG = ImagePart(ImageUrl("data:image/png;base64,iVBO", "low"))
PAINTED = Content(5, images={(0, 1): Image("image/gif", 9, 9, 4)}, converted={(0, 1): PNG})


def test_an_image_is_converted_where_the_dialect_does_not_take_it():
    plain = msgspec.structs.replace(PNG, image_url=ImageUrl(PNG.image_url.url))
    parts, changes = fitted(with_file(GIF), PAINTED, SEEING, "gemini")
    assert (parts, changes) == ([BEFORE, plain, AFTER], ("image=converted", "dropped=image_url.detail"))
    assert fitted(with_file(GIF), PAINTED, SEEING) == ([BEFORE, GIF, AFTER], ())


def test_an_image_that_could_not_be_converted_is_for_those_who_take_it():
    lost = msgspec.structs.replace(PAINTED, converted={})
    with pytest.raises(UnsupportedParameter) as refusal:
        fitted(with_file(GIF), lost, SEEING, "gemini")
    assert refusal.value.param == "messages[0].content[1]"
    assert fitted(with_file(GIF), lost, SEEING) == ([BEFORE, GIF, AFTER], ())


@pytest.mark.parametrize(("size_bytes", "changes"), [(3_932_160, ()), (3_932_161, ("image=converted",))])
def test_an_image_is_converted_where_it_is_too_large_for_the_dialect(size_bytes, changes):
    plain = ImagePart(ImageUrl("data:image/png;base64,iVBO"))
    given = Content(5, images={(0, 1): Image("image/png", 9, 9, size_bytes)}, converted={(0, 1): plain})
    assert fitted(with_file(plain), given, SEEING, "anthropic")[1] == changes
    assert fitted(with_file(plain), given, SEEING)[1] == ()


def test_a_stored_image_is_for_models_that_see():
    by_id = FilePart(FileSource(file_id="file-1", filename="a.png"))
    given = Content(5, images={(0, 1): Image("image/png", 9, 9, 4)}, parts={(0, 1): PNG})
    assert fitted(with_file(by_id), given, SEEING) == ([BEFORE, PNG, AFTER], ("dropped=file.filename",))
    with pytest.raises(UnsupportedParameter) as refusal:
        fitted(with_file(by_id), given, BLIND)
    assert refusal.value.param == "messages[0].content[1]"
