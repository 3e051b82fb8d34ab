"""What can be wrong with content, and with converting it.

ApiError
  ConversionsBusy        503  conversions_busy
  StorageUnavailable     503  storage_unavailable
  NoSuchFile             404  file_not_found
  InvalidMultipart       400  invalid_multipart
  FileTooLarge           413  file_too_large
  StorageQuotaExceeded   413  storage_quota_exceeded
  FileCountQuotaExceeded 413  file_count_quota_exceeded
  EmptyFile              400  empty_file
  UnsupportedFileType    400  unsupported_file_type
  MimeMismatch           400  mime_mismatch
ContentError             400  to be answered `at` the field in which the content stood
  ImageTooManyPixels          image_too_many_pixels
  ImageTooLarge               image_too_large: would not become small enough for a provider
  InvalidAudio                invalid_audio
    AudioTooLong              invalid_audio
  FileNotFound                file_not_found
  FileNotReady                file_not_ready
  FileAboveLimit         413  request_too_large
  InvalidPdf                  invalid_pdf
  EncryptedPdf                encrypted_pdf
  TooManyPages                too_many_pages
  PageTooLarge                page_too_large
  PdfConversionFailed         pdf_conversion_failed
  PdfTooLarge            413  request_too_large: what its pages become
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


class StorageUnavailable(ApiError):
    """The store cannot be reached, has no room, or has lost a file; or there is no room for what arrives."""

    def __init__(self) -> None:
        message = "Files cannot be stored or read at the moment. Try again shortly."
        super().__init__(503, "storage_unavailable", message, headers=[("retry-after", "5")])


class NoSuchFile(ApiError):
    """Unknown, malformed, foreign, deleted and expired ids at `/v1/files`, by equal bytes."""

    def __init__(self) -> None:
        super().__init__(404, "file_not_found", "This workspace has no file of this id.")


class InvalidMultipart(ApiError):
    def __init__(self, fault: str) -> None:
        super().__init__(400, "invalid_multipart", f"The body is not the multipart/form-data that it should be: {fault}.")


class FileTooLarge(ApiError):
    def __init__(self, limit_bytes: int) -> None:
        message = f"The file is larger than {limit_bytes} bytes, the limit of one file."
        super().__init__(413, "file_too_large", message, param="file")


class StorageQuotaExceeded(ApiError):
    def __init__(self, limit_bytes: int, used_bytes: int) -> None:
        message = (
            f"The files of this workspace may have {limit_bytes} bytes, of which {used_bytes} are used; this file would be too "
            "many. Delete files, or ask for more room."
        )
        super().__init__(413, "storage_quota_exceeded", message, param="file")


class FileCountQuotaExceeded(ApiError):
    def __init__(self, limit: int) -> None:
        message = f"This workspace may have {limit} files, and has them. Delete files, or ask for more."
        super().__init__(413, "file_count_quota_exceeded", message, param="file")


class EmptyFile(ApiError):
    def __init__(self) -> None:
        super().__init__(400, "empty_file", "The file has no bytes.", param="file")


class UnsupportedFileType(ApiError):
    def __init__(self) -> None:
        message = "The file must be text in UTF-8, a PDF, a PNG, JPEG, GIF or WebP image, or MP3, WAV or WebM audio."
        super().__init__(400, "unsupported_file_type", message, param="file")


class MimeMismatch(ApiError):
    def __init__(self, actual: str) -> None:
        message = f"The file is {actual}, but its Content-Type or its name says that it is something else."
        super().__init__(400, "mime_mismatch", message, param="file")


class FileNotFound(ContentError):
    """An unknown, foreign, deleted or expired id inside a request, by equal bytes."""

    code = "file_not_found"
    text = "'{param}' names no file of this workspace."


class FileNotReady(ContentError):
    code = "file_not_ready"
    text = "The file in '{param}' is still being uploaded."


class FileAboveLimit(ContentError):
    status = 413
    code = "request_too_large"
    text = "The file in '{param}' is larger than a request may bring."


class InvalidPdf(ContentError):
    code = "invalid_pdf"
    text = "The PDF in '{param}' is broken, or is no PDF."


class EncryptedPdf(ContentError):
    code = "encrypted_pdf"
    text = "The PDF in '{param}' can be opened only with a password. Send it without."


class TooManyPages(ContentError):
    code = "too_many_pages"

    def __init__(self, limit: int) -> None:
        self.text = f"The PDF in '{{param}}' has more than {limit} pages."
        super().__init__()


class PageTooLarge(ContentError):
    code = "page_too_large"
    text = "The PDF in '{param}' has a page with a side of more than 14,400 points, or of less than 1."


class PdfConversionFailed(ContentError):
    code = "pdf_conversion_failed"
    text = "The PDF in '{param}' cannot be converted: it is broken, or a page of it takes too long."


class PdfTooLarge(ContentError):
    status = 413
    code = "request_too_large"
    text = "The pages of the PDF in '{param}' take more than 64 MB. Send fewer."
