"""The table of benchmarks/calibration.md: `tamis calibrate --level 0` in Markdown, and m(N) beside autocurate's multiplier.

    python -m benchmarks.calibration                    # 10 minutes on 2 cores
    TAMIS_AUTOCURATE=FOLDER python -m benchmarks.calibration   # with autocurate 0.3.0 unpacked there

autocurate's ``research.multiplier`` gives a 95 % interval by a percentile bootstrap over seeds. Both read the same curves: a power
law with normal noise of the seeds, at budgets from 8 to 512 by factors of two, and an arm at 64.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from curate.contract.draws import draw
from train.study.analysis import analyse_results
from train.study.calibrate import level_0, printed
from train.study.simulate import World, results

_BOOTSTRAPS = 300


def main(simulations: int = 2000) -> None:
    lines = [printed(line) for line in level_0(simulations, os.cpu_count() or 1)]
    print(
        f"# Calibration, level 0\n\n`python -m benchmarks.calibration`, {simulations:,} simulations a design (five times as many in the "
    )
    print(f"demo's own), numpy {version('numpy')}, scipy {version('scipy')}. In percent.\n")
    _table(lines)
    if folder := os.environ.get("TAMIS_AUTOCURATE"):
        print("\n## m(N) beside autocurate 0.3.0\n")
        print(
            "Coverage of a 95 % interval in percent, and how often it leaves out 1 where m is 1, on the same curves.\n"
        )
        _table(list(_beside(folder, min(simulations, 1000))))


def _table(rows: list[dict[str, str]]) -> None:
    print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
    for row in rows:
        print(f"| {' | '.join(row.values())} |")


def _beside(folder: str, simulations: int) -> Any:
    sys.path.insert(0, folder)
    from autocurate.research.multiplier import bootstrap_multiplier  # pyright: ignore

    for seeds in (3, 5, 10):
        for fall in (5, 15, 40):
            for m in (0.5, 1.0, 2.0):
                plain = World(
                    {"random": 1.0, "a": m},
                    budgets=(64,),
                    reference_budgets=(8, 16, 32, 64, 128, 256, 512),
                    draws=seeds,
                )
                sd = float(plain.gain() / fall * np.sqrt(seeds / 2))
                world = replace(plain, draw_sd=sd, item_sd=0.0, rest_sd=0.0, items=20)
                ours, theirs, ours_off, theirs_off, told = 0, 0, 0, 0, 0
                for simulation in range(simulations):
                    rng = np.random.default_rng(draw(1, f"beside/{seeds}/{fall}/{m}", str(simulation)))
                    found = results(world, rng)
                    scores = (found.bits.sum(axis=3) / found.size.sum())[:, :, 0]
                    base = [i for i, (arm, _) in enumerate(found.cells) if arm == "random"]
                    budgets = np.array([found.cells[i][1] for i in base], dtype=float)
                    runs = [(budgets, -scores[base, k]) for k in range(seeds)]
                    own = -scores[found.cells.index(("a", 64))]
                    got = bootstrap_multiplier(runs, own, 64.0, n=_BOOTSTRAPS, seed=simulation)
                    theirs += got["lo"] <= m <= got["hi"]
                    theirs_off += not got["lo"] <= 1 <= got["hi"]
                    if seeds < 5:
                        continue
                    (w,) = analyse_results(found).views[0].worths
                    told += w.defined
                    ours += w.defined and w.low <= m <= w.high
                    ours_off += w.defined and not w.low <= 1 <= w.high
                yield {
                    "seeds": str(seeds),
                    "fall, standard errors": str(fall),
                    "m": f"{m:g}",
                    "Tamis": f"{100 * ours / told:.1f}" if told else "not told: fewer than five",
                    "autocurate": f"{100 * theirs / simulations:.1f}",
                    "Tamis: effect at m = 1": f"{100 * ours_off / told:.1f}" if told and m == 1 else "",
                    "autocurate: effect at m = 1": f"{100 * theirs_off / simulations:.1f}" if m == 1 else "",
                }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
