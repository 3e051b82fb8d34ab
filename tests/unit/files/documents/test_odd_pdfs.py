"""B6 and rows 117 to 126: each ends as it must, in time, and nothing is left of it (see the conftest above)."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from files.documents import Documents
from files.sandbox import Sandbox
from infery_site.errors import ContentError
from tests.fakes import pdfs
from tests.fakes.pdf_bombs import BOMBS, CONVERTED, ODD
from tests.unit.files.documents.reading import ENGINES

BOUND_S = 10
PATIENCE_S = 60
"""How long a machine that does other things may need on top."""

ENGINE = next(iter(ENGINES.values()))
BASE = pdfs.of_contents([pdfs.text("First"), b"q 99 0 0 99 9 9 cm 0 0 1 1 re f Q"], packed=False)
PIECES = [
    b"obj",
    b"endobj",
    b"stream",
    b"/Kids",
    b"/Count",
    b"/Length",
    b"<<",
    b">>",
    b"[",
    b"]",
    b"R",
    b"-1",
    b"99999999999",
    b"(",
    b"<",
    b"%",
    b"\0",
]


async def outcomes(documents, workspace_id, data):
    try:
        document = await documents.examine(workspace_id, data)
    except ContentError as error:
        return [error.code]
    ends = []
    for convert in (documents.texts, documents.images):
        try:
            await convert(document)
        except ContentError as error:
            ends.append(error.code)
        else:
            ends.append(CONVERTED)
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, id=f"row-{name}") for name in ODD])
async def test_an_odd_pdf_ends_as_it_must(documents, sandbox, workspace_id, name):
    data, allowed = ODD[name]
    ends = set(await outcomes(documents, workspace_id, data))
    if name.startswith("119") and sandbox._protection.engine.startswith("pdfium"):
        allowed = allowed | {"too_many_pages"}
    assert ends <= allowed


@pytest.mark.slow
@pytest.mark.parametrize(
    "page_s", [pytest.param(1, id="short"), pytest.param(8, id="long", marks=[pytest.mark.long, pytest.mark.timeout(300)])]
)
@pytest.mark.parametrize("name", [pytest.param(name, id=f"row-{name}") for name in BOMBS])
async def test_a_bomb_goes_off_in_the_sandbox(workspace_id, name, page_s):
    """Row 124. The memory is the limit of the child's processes, which the tests of the sandbox prove to be in force."""
    make, allowed = BOMBS[name]
    data = make()
    documents = Documents(Sandbox(kept_in=ENGINE), page_s=page_s)
    started = time.monotonic()
    ends = await outcomes(documents, workspace_id, data)
    assert set(ends) <= allowed | {"pdf_conversion_failed"}
    assert time.monotonic() - started < len(ends) * BOUND_S + PATIENCE_S


@pytest.mark.slow
@pytest.mark.parametrize(
    "examples",
    [pytest.param(30, id="short"), pytest.param(2_000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(7_200)])],
)
def test_mutated_pdfs(workspace_id, examples):
    """`pdf_fuzz`: each is converted or refused by name, and no process and no file is left."""
    changes = st.lists(
        st.tuples(st.integers(0, len(BASE)), st.integers(0, 40), st.one_of(st.binary(max_size=6), st.sampled_from(PIECES))),
        min_size=1,
        max_size=6,
    )

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
    @given(changes=changes)
    def mutate(changes):
        data = BASE
        for at, length, other in changes:
            data = data[:at] + other + data[at + length :]
        documents = Documents(Sandbox(kept_in=ENGINE), page_s=2)
        ends = set(asyncio.run(outcomes(documents, workspace_id, data)))
        assert ends <= {CONVERTED, "invalid_pdf", "encrypted_pdf", "too_many_pages", "page_too_large", "pdf_conversion_failed"}

    mutate()
