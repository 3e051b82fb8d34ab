"""What can be wrong with content, and with converting it.

ApiError
  ConversionsBusy        503  conversions_busy
ContentError             400  to be answered `at` the field in which the content stood
  ImageTooManyPixels          image_too_many_pixels
  ImageTooLarge               image_too_large: would not become small enough for a provider
  InvalidAudio                invalid_audio
    AudioTooLong              invalid_audio
"""

from __future__ import annotations

from infery_site.errors import ApiError, ContentError

BUSY_RETRY_AFTER_S = 5


class ConversionsBusy(ApiError):
    """Nothing is wrong with the content: too much is being converted, or this machine has no room for a child."""

    def __init__(self) -> None:
        message = "Too much is being converted at the moment. Try again in a few seconds."
        super().__init__(503, "conversions_busy", message, headers=[("retry-after", str(BUSY_RETRY_AFTER_S))])


class ImageTooManyPixels(ContentError):
    code = "image_too_many_pixels"
    text = "The image in '{param}' has more than 40 million pixels."


class ImageTooLarge(ContentError):
    code = "image_too_large"
    text = "The image in '{param}' cannot be made small enough for this model."


class InvalidAudio(ContentError):
    code = "invalid_audio"
    text = "The audio in '{param}' is broken, or is not of the format that it was sent as."


class AudioTooLong(InvalidAudio):
    text = "The audio in '{param}' is longer than 4 hours, or than 10 minutes in a format that has to be converted."
