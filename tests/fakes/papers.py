"""A real document of thirty pages and what is on them, so that a test knows what must be found.

1       a form with a field that was filled in
2..28   text; page TURNED is turned by a quarter
29      text in scripts other than Latin
30      a scan: a picture and no text
"""

from __future__ import annotations

from pathlib import Path

PAPER = Path(__file__).with_name("paper.pdf")
PAGES = 30
TURNED = 7
SCRIPTED, SCANNED = 29, 30

TITLE = "On the motion of machines"
FIELD = "Ada Lovelace"
SCRIPTS = ("Кириллица", "Ελληνικά", "Հայերեն", "ქართული")
WORDS = "The engine weaves algebraic patterns just as the loom weaves flowers and leaves, and it does so without ever tiring."


def on_page(number: int) -> str:
    """A line that stands on this page only."""
    return f"This is page number {number}."
