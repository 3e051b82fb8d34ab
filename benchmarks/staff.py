"""How fast the pages of the staff admin and of the console are when the tables are large: a million requests of a month.

The rows are written by SQL (`staff_rows.py`), which makes books that do not balance; nothing here is proven, only timed.
Each page is asked several times in a process of its own (`staff_pages.py`), with no cache of an earlier try.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from benchmarks.gateway import environment_of
from benchmarks.processes import run_python
from benchmarks.scenarios import database
from benchmarks.staff_pages import PageRow


class StaffResult(msgspec.Struct, frozen=True):
    engine: str
    rows: int
    pages: list[PageRow]


def measure(engine: str, rows: int, folder: Path) -> StaffResult:
    """Raises BenchmarkError."""
    with database(engine) as (url, _):
        environment = environment_of(folder, url)
        environment["DJANGO_SETTINGS_MODULE"] = "infery_site.settings"
        run_python(["manage.py", "migrate", "--verbosity", "0"], environment)
        run_python(["manage.py", "load_catalog", "catalog.yaml"], environment)
        run_python(["manage.py", "create_workspace", "Bench", "--credits", "1000", "--json"], environment)
        sys.stderr.write(f"  staff pages over {rows:,} requests\n")
        output = run_python(["-m", "benchmarks.staff_pages", str(rows)], environment, timeout_s=1800)
        pages = msgspec.json.decode(output.strip().splitlines()[-1], type=list[PageRow])
    return StaffResult(engine, rows, pages)


def table(results: list[StaffResult]) -> str:
    lines = []
    for result in results:
        lines += [
            f"Pages of staff and console, {result.engine}, {result.rows:,} requests",
            f"{'':52} {'median ms':>10} {'most ms':>9} {'CPU ms':>8} {'queries':>8}",
            *(
                f"{page.name:52} {page.median_ms:10.1f} {page.most_ms:9.1f} {page.cpu_ms:8.1f} {page.queries:8}"
                for page in result.pages
            ),
        ]
    return "\n".join(lines)
