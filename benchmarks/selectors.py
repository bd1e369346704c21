"""All selectors on one pool, compared on one page (curate/report/selectors.py).

    make bench-select POOL=work                                      # or, with options:
    python -m benchmarks.selectors work --budget 500 --only facility_location,k_center,random

WORK is a folder of `tamis run` with an embed and a select stage; the pool is that of its last select stage. Written are
WORK/selectors.html, one page, and WORK/selectors.json, all its numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from curate.contract.errors import TamisError
from curate.contract.progress import shown
from curate.report.selectors import compare, write
from curate.report.selectors_table import lines


def main(arguments: Sequence[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    only = [name.strip() for name in given.only.split(",") if name.strip()]
    try:
        with shown():
            comparison = compare(given.work, budget=given.budget, seeds=given.seeds, only=only)
    except TamisError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    page = given.out or given.work / "selectors.html"
    command = f"python -m benchmarks.selectors {given.work} --budget {comparison['budget']} --seeds {given.seeds}"
    numbers = write(comparison, page, command + (f" --only {','.join(only)}" if only else ""))
    print("\n".join(lines(comparison)))
    print(f"\n{page}\n{numbers}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selectors", description="All selectors on one pool.")
    parser.add_argument(
        "work", type=Path, metavar="WORK", help="a folder of `tamis run` with an embed and a select stage"
    )
    parser.add_argument(
        "--budget", type=int, help="rows; that of the select stage if not given, a tenth of the pool at most"
    )
    parser.add_argument("--out", type=Path, help="the page; the numbers stand beside it (WORK/selectors.html)")
    parser.add_argument("--seeds", type=int, default=5, help="how many seeds each selector is tried with (5)")
    parser.add_argument("--only", default="", metavar="NAME,NAME", help="these selectors alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
