"""Rows of files: what a workspace keeps, and how much that is."""

from files.models.stored import FileUsage, StoredFile

__all__ = ["FileUsage", "StoredFile"]
