"""Why an image could not be fetched. The texts tell nothing that a scan of ports or names could use.

    ContentError
      InvalidImageUrl   invalid_image_url: no URL, no public address, no allowed port; also of a redirect
      ImageFetchFailed  image_fetch_failed: name, network, TLS, time, status, compression
      ImageTooLarge     image_too_large
    ApiError
      FetchesBusy       503 fetches_busy: too much is being fetched, the URL was not tried

What was fetched and is no image raises the errors of `infery_site.sniffing`.
"""

from __future__ import annotations

from infery_site.errors import ApiError, ContentError


class InvalidImageUrl(ContentError):
    code = "invalid_image_url"
    text = "'{param}' must be an http or https URL of a public address, on the usual port, with at most 3 redirects to such."


class ImageFetchFailed(ContentError):
    code = "image_fetch_failed"
    text = "The image at '{param}' could not be fetched: its server must answer 200, uncompressed, within 10 seconds."


class ImageTooLarge(ContentError):
    code = "image_too_large"
    text = "The image at '{param}' has more than 20 MB."


class FetchesBusy(ApiError):
    def __init__(self) -> None:
        message = "Too many images are being fetched at the moment. Try again in a few seconds, or send them inline."
        super().__init__(503, "fetches_busy", message, headers=[("retry-after", "5")])
