"""Selectors from a thousand rows to a million, each in a process of its own: seconds, peak memory, and a log-log plot.

Rows are mixtures of two real embeddings each, with noise, written to disk and memory-mapped; DEITA's are noisy copies of 10,000
of them, so that it has to go through the whole pool. Facility location takes 1 row in 100, exactly up to 50,000 rows, and on a
graph of 16 neighbours. Wanted on two cores for a million rows of 384: k-center of 1,000 in 90 s, DEITA of 10,000 in 3 minutes,
facility location of 10,000 with its graph in 10 minutes; facility location of 1,000 from 50,000, exact, in 2 GB. The plot is
written to docs/selection-speed.png.

    python -m benchmarks million
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.embed import texts
from benchmarks.select import grown, pool_of, with_apricot, with_submodlib
from curate.embed import sentence
from curate.rows.pool import Pool

SIZES = (2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)
EXACT, GRAPH = "facility location, exact", "facility location, graph"
PEERS = ("apricot, lazy", "submodlib, LazyGreedy")
PEERS_UP_TO = 20_000
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "selection-speed.png"


def budget_of(method: str, rows: int) -> int:
    if method == "k-center":
        return min(1_000, rows // 10)
    if method == "DEITA":
        return min(10_000, rows // 10)
    return rows // 50 if (method, rows) == (EXACT, 50_000) else rows // 100


def methods_of(rows: int) -> list[str]:
    peers = PEERS if rows <= PEERS_UP_TO else ()
    return [*([EXACT] if rows <= 50_000 else []), *peers, GRAPH, "k-center", "DEITA"]


def run(method: str, pool: Pool, budget: int) -> dict[str, Any]:
    """The facts of one choice."""
    from curate.select import deita, facility_location, k_center

    if method in PEERS:
        assert pool.vectors is not None
        (with_apricot if method == PEERS[0] else with_submodlib)(np.array(pool.vectors), budget)
        return {}
    if method == "k-center":
        return k_center.select(pool, budget).facts
    if method == "DEITA":
        return deita.select(pool, budget, score="score").facts
    return facility_location.select(pool, budget, neighbours=0 if method == EXACT else 16).facts


def choose(method: str, path: str, rows: int) -> None:
    """One job, in a process of its own. Prints a line of JSON."""
    import time

    from curate.contract.progress import shown
    from curate.run.memory import peak_mb, reset_peak

    vectors, budget = np.load(path, mmap_mode="r")[:rows], budget_of(method, rows)
    pool = pool_of(vectors, np.random.default_rng(0).random(rows))
    run(method, pool.take(np.arange(64)), 5)  # loads and compiles what is loaded and compiled once
    reset_peak()
    start = time.perf_counter()
    with shown():
        facts = run(method, pool, budget)
    found = {"method": method, "rows": rows, "picks": budget, "seconds": time.perf_counter() - start, "mb": peak_mb()}
    print(json.dumps({**found, "facts": facts}))


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, copies = str(Path(folder) / "vectors.npy"), str(Path(folder) / "copies.npy")
        vectors = grown(sentence.embed(texts(7_600)), SIZES[-1])
        np.save(path, vectors)
        np.save(copies, grown(vectors[:10_000], SIZES[-1], mixed=False))
        del vectors
        print(f"{'method':<25} {'rows':>9} {'picks':>7} {'seconds':>9} {'peak MB':>8}")
        for size in SIZES:
            for method in methods_of(size):
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.million",
                    method,
                    copies if method == "DEITA" else path,
                    str(size),
                ]
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    print(f"{method:<25} {size:>9,} failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
                    continue
                row = json.loads(done.stdout)
                rows.append(row)
                said = {name: value for name, value in row["facts"].items() if isinstance(value, float)}
                proofs = [name for name in row["facts"] if name.endswith("certificate")]
                said |= {name.replace("_", " "): row["facts"][name]["ratio"] for name in proofs}
                line = f"{method:<25} {size:>9,} {row['picks']:>7,} {row['seconds']:>9.2f} {row['mb']:>8,}"
                print(line, "  ".join(f"{name} {value:.4g}" for name, value in said.items()), flush=True)
    draw(rows)
    print(f"plot: {PICTURE}")


def draw(rows: list[dict[str, Any]]) -> None:
    """Seconds against rows, both logarithmic, a line a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7.2, 4.4), dpi=160)
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == name]
        style = {"linestyle": "--", "marker": "x"} if name in PEERS else {"marker": "o"}
        axes.plot([row["rows"] for row in mine], [row["seconds"] for row in mine], label=name, markersize=4, **style)
    axes.set(xscale="log", yscale="log", xlabel="rows of 384 dimensions", ylabel="seconds, 2 cores")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    axes.set_title("Seconds to choose 1 row in 100 (facility location), 1,000 (k-center), 10,000 (DEITA)", fontsize=9)
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE)


if __name__ == "__main__":
    choose(sys.argv[1], sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 1 else main()
