"""Rows of files: what a workspace keeps and how much that is, what it had converted, and where the pages are."""

from files.models.documents import Document, Rendition
from files.models.stored import FileUsage, StoredFile

__all__ = ["Document", "FileUsage", "Rendition", "StoredFile"]
