"""The test suite. Only this folder is a package; the folders below are found by path (`--import-mode=importlib`)."""
