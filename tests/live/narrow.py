"""The settings of the live suite, with so little room for files that a test can fill it."""

from tests.live.settings import *  # noqa: F403 - all of them, and some changed

FILE_LIMIT_BYTES = 40 * 1024 * 1024
FILES_PER_WORKSPACE = 8
STORAGE_BYTES_PER_WORKSPACE = 100 * 1024 * 1024
