"""Inline images: what `files.images` finds in their bytes, held against what was said of them."""

from __future__ import annotations

from chat.errors import InvalidRequest
from chat.schema.content import Image
from files.images import measure
from infery_site.errors import ContentError

_SAME_TYPE = {"image/jpg": "image/jpeg"}


def inspect(data: bytes, media_type: str, param: str) -> Image:
    """Judge an image that was declared as `media_type` and stands in the field `param`.

    Raises ApiError: `unsupported_image_format`, `invalid_data_uri` where the declared type is another one, `invalid_image`
    for a broken or cut file, `image_too_many_pixels`.
    """
    try:
        picture = measure(data)
    except ContentError as error:
        raise error.at(param) from None
    if _SAME_TYPE.get(media_type, media_type) != picture.media_type:
        message = f"The data: URI in '{param}' holds {picture.media_type} and declares another type."
        raise InvalidRequest("invalid_data_uri", message, param)
    return Image(picture.media_type, picture.width, picture.height, len(data))
