"""`python -m tests.fakes.make_paper`: makes `paper.pdf` anew, by the tools that people make PDFs with. See `papers.py`.

Chromium prints the text (in DejaVu, which has the scripts), Pillow saves the scan, PDFium puts the pages together and turns
one. The file is committed, because none of them gives equal bytes twice.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import pypdfium2
from PIL import Image, ImageDraw, ImageFont

from tests.fakes import pdfs
from tests.fakes.papers import FIELD, PAPER, SCRIPTS, TITLE, TURNED, WORDS, on_page

SCAN_PIXELS = (850, 1_100)
TEXT_PAGES = 28
CHROMIUM = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]


def text_pages(folder: Path) -> Path:
    """From the second page on; the scripts stand on the last of them."""
    paragraphs = "".join([f"<p>{WORDS}</p>"] * 6)
    pages = [f"<h1>{TITLE}</h1><h2>{on_page(number)}</h2>{paragraphs}" for number in range(2, TEXT_PAGES + 1)]
    pages.append(f"<h2>{on_page(TEXT_PAGES + 1)}</h2>{''.join(f'<p>{text}</p>' for text in SCRIPTS)}")
    style = (
        "@page{size:8.5in 11in} body{font:12pt 'DejaVu Serif'} section{break-after:page} section:last-child{break-after:auto}"
    )
    body = "".join(f"<section>{page}</section>" for page in pages)
    source, target = folder / "text.html", folder / "text.pdf"
    source.write_text(f"<!doctype html><meta charset=utf-8><style>{style}</style>{body}", encoding="utf-8")
    subprocess.run([*CHROMIUM, f"--print-to-pdf={target}", source.as_uri()], check=True, capture_output=True)
    return target


def scan(folder: Path) -> Path:
    image = Image.new("L", SCAN_PIXELS, 250)
    font = ImageFont.truetype("DejaVuSerif.ttf", 40)
    ImageDraw.Draw(image).multiline_text((90, 120), "A page that was scanned.\nIts words are a picture.", 20, font=font)
    target = folder / "scan.pdf"
    image.save(target, "PDF", resolution=100, quality=60)
    return target


def form() -> bytes:
    """A page with a field that somebody has filled in."""
    look = pdfs.stream(
        b"/Tx BMC BT /F1 14 Tf 4 6 Td (%s) Tj ET EMC" % FIELD.encode(),
        b"/Type /XObject /Subtype /Form /BBox [0 0 300 24] /Resources << /Font << /F1 3 0 R >> >>",
    )
    field = (
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (%s) /Rect [72 600 372 624] /F 4 /DA (/F1 14 Tf 0 g) "
        b"/AP << /N 4 0 R >> >>" % FIELD.encode()
    )
    return pdfs.of_contents(
        [pdfs.text(on_page(1))],
        entries=b"/Annots [5 0 R]",
        more=[look, field],
        catalog=b"/AcroForm << /Fields [5 0 R] /DA (/F1 14 Tf 0 g) /DR << /Font << /F1 3 0 R >> >> >>",
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paper = pypdfium2.PdfDocument(form())
        for part in (text_pages(folder), scan(folder)):
            paper.import_pages(pypdfium2.PdfDocument(part))
        paper[TURNED - 1].set_rotation(90)
        made = io.BytesIO()
        paper.save(made)
    PAPER.write_bytes(made.getvalue())
    sys.stdout.write(f"{len(paper)} pages, {len(made.getvalue())} bytes\n")


if __name__ == "__main__":
    main()
