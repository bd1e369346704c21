"""Whether the instrument reads right: simulated studies through the very code that analyses real ones, and one table.

Level 0 trains nothing: results with a known truth (train/study/simulate.py) are analysed by the thousand, and the table says how
often an interval holds the truth, how often something false is shown, and how often something true is. Each line has its
Monte-Carlo error and what is required: coverage of 94 to 97.5 %, and no error rate above the 99.9 % point of the binomial
distribution around its level. Where the method does not claim to hold, the line says how often the data warned of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from curate.contract import processes
from curate.contract.draws import draw
from curate.contract.progress import bar
from train.study.analysis import Analysis, Comparison, analyse_results, half_width
from train.study.moments import ENOUGH, LEVEL
from train.study.power import Components, error_of, smallest
from train.study.simulate import Pools, World, results
from train.study.skew import skewed

COVERAGE = (0.94, 0.975)
COVERAGE_OF_M = (0.93, 0.975)
_BAND = 0.999
_CHUNK = 50  # simulations that a worker does at a time


@dataclass(frozen=True)
class Cell:
    """One design whose truth is known. measure: of one simulation, (name, times it could be, times it was) for each rate. claims:
    what each rate is required to be: "coverage", an error rate, "power" with what was planned, or None where nothing is claimed.
    simulations: in how many of the default number."""

    name: str
    measure: Callable[[np.random.Generator], dict[str, tuple[int, int]]]
    claims: dict[str, Any]
    times: float = 1.0


@dataclass(frozen=True)
class Line:
    design: str
    rate: str
    value: float
    error: float  # Monte Carlo, of one standard deviation
    required: str
    verdict: str  # holds, fails, or nothing where nothing is claimed


def level_0(simulations: int = 2000, workers: int = 1, only: str = "") -> list[Line]:
    """The whole table. simulations: of each cell; five times as many in the demo's own design. only: cells whose name has this
    in it. The same for any number of workers. Cost: about 10 minutes of two cores."""
    every = cells()
    calls = [
        (number, start, min(start + _CHUNK, n))
        for number, cell in enumerate(every)
        if only in cell.name
        for n in [round(simulations * cell.times)]
        for start in range(0, n, _CHUNK)
    ]
    totals: dict[int, dict[str, np.ndarray]] = {}
    with bar(sum(stop - start for _, start, stop in calls), "calibrate: simulated studies") as advance:
        for (number, start, stop), found in zip(calls, _done(calls, workers), strict=True):
            of_cell = totals.setdefault(number, {})
            for rate, counts in found.items():
                of_cell[rate] = of_cell.get(rate, np.zeros(3)) + counts
            advance(stop - start)
    return [line for number, found in totals.items() for line in _lines(every[number], found)]


def printed(line: Line) -> dict[str, str]:
    """A line as people read it, in percent."""
    return {
        "design": line.design,
        "rate": line.rate,
        "found": f"{100 * line.value:.1f}",
        "±": f"{100 * line.error:.1f}",
        "required": line.required,
        "": line.verdict,
    }


def _done(calls: list[tuple[int, int, int]], workers: int) -> Iterator[dict[str, np.ndarray]]:
    if workers == 1:
        yield from (_simulate(*call) for call in calls)
        return
    with processes.pool(workers, _one_thread) as pool:
        futures: list[Future[dict[str, np.ndarray]]] = [pool.submit(_simulate, *call) for call in calls]
        for future in futures:
            yield future.result()


def _one_thread() -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def _simulate(number: int, start: int, stop: int) -> dict[str, np.ndarray]:
    """For each rate: how often it could be, how often it was, and the sum of squares of the shares of single simulations."""
    cell = cells()[number]
    out: dict[str, np.ndarray] = {}
    for simulation in range(start, stop):
        rng = np.random.default_rng(draw(0, f"calibrate/{cell.name}", str(simulation)))
        for rate, (could, was) in cell.measure(rng).items():
            if could:
                out[rate] = out.get(rate, np.zeros(3)) + np.array([could, was, (was / could) ** 2 * could])
    return out


def _lines(cell: Cell, found: dict[str, np.ndarray]) -> Iterator[Line]:
    for rate, (could, was, _) in found.items():
        value = was / could
        per = cell.claims.get(f"{rate}: of a study", 1)  # rates of one study that hang together count as one
        n = could / per
        error = float(np.sqrt(max(value * (1 - value), 1e-9) / n))
        claim = cell.claims.get(rate)
        required, holds = _required(claim, value, n, error)
        yield Line(
            cell.name, rate, float(value), error, required, "" if holds is None else "holds" if holds else "fails"
        )


def _required(claim: Any, value: float, n: float, error: float) -> tuple[str, bool | None]:
    if claim is None:
        return "", None
    if claim in ("coverage", "coverage of m"):
        low, high = COVERAGE if claim == "coverage" else COVERAGE_OF_M
        slack = stats.norm.ppf(_BAND) * error  # a rate at the edge may be found a little beyond it
        return f"{100 * low:g} to {100 * high:g} %", bool(low - slack <= value <= high + slack)
    if claim == "at least":
        return "94 % or more", bool(value >= COVERAGE[0] - stats.norm.ppf(_BAND) * error)
    if isinstance(claim, tuple):
        return f"{100 * claim[1]:.0f} ± 3 %", bool(abs(value - claim[1]) <= 0.03 + stats.norm.ppf(_BAND) * error)
    most = stats.binom.ppf(_BAND, round(n), claim) / n
    return f"at most {100 * claim:g} % (band {100 * most:.1f} %)", bool(value <= most)


# --- the cells --------------------------------------------------------------------------------------------------------


def cells() -> list[Cell]:
    """Every design, in the order of the table."""
    return [
        *(_null(draws, items) for draws in (5, 10, 20) for items in (50, 300, 2000)),
        _null(5, 300, seeds=2),
        _null(1, 300, seeds=8),
        _null(5, 300, noise="t3", noisy=("random", "a", "b")),
        *(_skewed(draws, noise) for noise in ("exponential", "lognormal") for draws in (5, 10, 20)),
        *(_boundary(draws, delta) for draws in (5, 10) for delta in ("10%", 0.05)),
        *(_tasks(population) for population in ("these tasks", "new tasks")),
        *(_pools(seeds, disjoint) for seeds in (1, 2) for disjoint in (False, True)),
        *(_power(draws) for draws in (5, 10, 20)),
        *(_worth(fall, m) for fall in (5, 15, 40) for m in (0.5, 1.0, 2.0)),
        _flat(),
        *(_stopped(width) for width in (0.08, 0.12)),
        _demo(),
    ]


def _judge(analysis: Analysis, world: World) -> dict[str, tuple[int, int]]:
    """Of every comparison with the reference: whether its interval holds the truth, and whether what was shown is true."""
    found = analysis.views[0].comparisons
    truths = [world.difference(c.arm, c.budget or 0) for c in found]
    held = sum(_holds(c, truth) for c, truth in zip(found, truths, strict=True))
    better = sum(c.verdict == "better" and truth >= -1e-12 for c, truth in zip(found, truths, strict=True))
    worse = sum(c.verdict == "worse" and truth <= 1e-12 for c, truth in zip(found, truths, strict=True))
    return {
        "coverage of a difference": (len(found), held),
        "anything false shown": (1, int(better + worse > 0)),
        "false better": (1, int(better > 0)),
        "false worse": (1, int(worse > 0)),
    }


def _holds(c: Comparison, truth: float) -> bool:
    return bool(c.difference.low <= truth <= c.difference.high)


def _null(draws: int, items: int, *, seeds: int = 1, **noise: Any) -> Cell:
    """Arms that are all alike."""
    world = World({"random": 1.0, "a": 1.0, "b": 1.0}, draws=draws, seeds=seeds, items=items, **noise)
    kind = f", {world.noise} noise" if world.noise != "normal" else ""
    what = f"{draws} draws × {seeds} seeds" if seeds > 1 else f"{draws} draws"

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        found = results(world, rng)
        judged = _judge(analyse_results(found), world)
        return {**judged, **_naive(found)}

    claims = {"coverage of a difference": "coverage", "anything false shown": 0.05, "false better": 0.025}
    return Cell(
        f"arms alike, {what}, {items} items{kind}", measure, {**claims, "coverage of a difference: of a study": 2}
    )


def _naive(found: Any) -> dict[str, tuple[int, int]]:
    """What is usually done: one run an arm, and a paired t test over items."""
    bits, size = found.bits[:, 0, 0], found.size
    a, b = found.cells.index(("a", 64)), found.cells.index(("random", 64))
    apart = (bits[a] - bits[b]) / size
    p = 2 * stats.t.sf(abs(apart.mean()) / stats.sem(apart), len(apart) - 1)
    return {"one run an arm, t test over items: false": (1, int(p <= 1 - LEVEL))}


def _skewed(draws: int, noise: Any) -> Cell:
    """One arm's draws scatter to one side. Nothing is claimed with few draws, but the data should warn."""
    world = World(
        {"random": 1.0, "a": 1.0, "b": 1.0},
        budgets=(16, 32, 64, 128, 256),
        draws=draws,
        noise=noise,
        noisy=("a",),
        draw_sd=0.06,
        item_sd=0.05,
        rest_sd=0.05,
    )

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        analysis = analyse_results(results(world, rng))
        judged = _judge(analysis, world)
        warned = bool(skewed(analysis))
        unwarned = {} if warned else {"false, not warned": (1, judged["anything false shown"][1])}
        return {**judged, "warned": (1, int(warned)), **unwarned}

    return Cell(f"one arm with {noise} draws, {draws} draws", measure, {})


def _boundary(draws: int, delta: float | str) -> Cell:
    """An arm that differs by delta exactly: it is not equivalent."""
    plain = World({"random": 1.0, "a": 1.0}, draws=draws, draw_sd=0.004, item_sd=0.05, rest_sd=0.05)
    margin = 0.1 * plain.gain() if isinstance(delta, str) else delta
    world = replace(plain, shift={"a": margin})

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        (first, _) = analyse_results(results(world, rng), delta=delta).views[0].comparisons
        return {"false equivalent": (1, int(first.p_equivalent <= 1 - LEVEL))}

    return Cell(f"a difference of delta ({delta}), {draws} draws", measure, {"false equivalent": 0.05})


def _tasks(population: Any) -> Cell:
    """Items of 40 tasks with an intraclass correlation of 0.1."""
    sd = float(np.sqrt(0.1 / 0.9 * (0.2**2 + 0.2**2)))
    world = World({"random": 1.0, "a": 1.0, "b": 1.0}, tasks=40, task_sd=sd)

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        return _judge(analyse_results(results(world, rng), tasks=population), world)

    new = population == "new tasks"
    claims = {"coverage of a difference": "coverage", "anything false shown": 0.05} if new else {}
    return Cell(
        f"items of new tasks, analysed for {population}", measure, {**claims, "coverage of a difference: of a study": 2}
    )


def _pools(seeds: int, disjoint: bool) -> Cell:
    """Other pools, from draws of one."""
    world = Pools(seeds=seeds, disjoint=disjoint)
    truth: list[float] = []

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        if not truth:
            truth.append(world.truth(np.random.default_rng(0)))
        found = world.results(rng)
        out = {}
        for population in ("this pool", "pools like it"):
            (c,) = analyse_results(found, population=population, delta=1.0).views[0].comparisons
            out[f"coverage over pools, analysed for {population}"] = (1, int(_holds(c, truth[0])))
        return out

    claims = {"coverage over pools, analysed for pools like it": "coverage" if seeds > 1 or disjoint else "at least"}
    what = "disjoint draws" if disjoint else "draws of 80 %"
    return Cell(f"other pools, {what}, {seeds} {'seeds' if seeds > 1 else 'seed'}", measure, claims)


def _power(draws: int) -> Cell:
    """An effect that is planned to be seen in 80 % of studies."""
    plain = World({"random": 1.0, "a": 1.0}, draws=draws, curve="flat", budgets=(64,))
    # two cells: own draws, items and rest of each; the rest is weighed by bytes, as the score is
    sizes = float(np.exp(0.25))  # E s² / (E s)² of the lognormal sizes
    found = Components(2 * plain.draw_sd**2, 2 * plain.item_sd**2 * sizes, 2 * plain.rest_sd**2 * sizes)
    effect = smallest(*error_of(found, draws, plain.items))
    world = replace(plain, shift={"a": -effect})

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        (c,) = analyse_results(results(world, rng), delta=0.1).views[0].comparisons
        return {"shown, 80 % planned": (1, int(c.verdict == "better"))}

    return Cell(f"an effect of {effect:.3f}, {draws} draws", measure, {"shown, 80 % planned": ("power", 0.8)})


def _worth(fall: float, m: float) -> Cell:
    """m(N) of a power law whose fall over the ladder is so many standard errors."""
    plain = World({"random": 1.0, "a": m}, budgets=(64,), reference_budgets=(8, 16, 32, 64, 128, 256, 512))
    sd = plain.gain() / fall * np.sqrt(plain.draws / 2)
    world = replace(plain, draw_sd=float(sd), item_sd=0.0, rest_sd=0.0, items=20)

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        view = analyse_results(results(world, rng)).views[0]
        (w,) = view.worths
        if not w.defined:
            return {"m undefined": (1, 1)}
        return {
            "coverage of m": (1, int(w.low <= m <= w.high)),
            "two-sided": (1, int(w.bounded)),
            "m undefined": (1, 0),
        }

    return Cell(f"m = {m:g}, a fall of {fall:g} standard errors", measure, {"coverage of m": "coverage of m"})


def _flat() -> Cell:
    """A reference that does not get better: m must not be told."""
    world = World({"random": 1.0, "a": 1.0}, budgets=(16, 32, 64, 128, 256), curve="flat")

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        view = analyse_results(results(world, rng)).views[0]
        return {"m told though more examples do not help": (1, int(any(w.defined for w in view.worths)))}

    return Cell("a flat reference", measure, {"m told though more examples do not help": 0.05})


def _stopped(width: float) -> Cell:
    """Draws are taken until intervals are narrow, and then one more."""
    world = World({"random": 1.0, "a": 1.0, "b": 1.0}, budgets=(64,), draws=15, draw_sd=0.06, item_sd=0.1, rest_sd=0.1)

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        found, narrow = results(world, rng), False
        for n in range(ENOUGH, world.draws + 1):
            analysis = analyse_results(found.only_draws(list(range(n))))
            if narrow:
                break
            narrow = half_width(analysis) <= width
        return _judge(analysis, world)

    claims = {
        "coverage of a difference": "coverage",
        "anything false shown": 0.05,
        "coverage of a difference: of a study": 2,
    }
    return Cell(f"draws until intervals are within {width:g}", measure, claims)


def _demo() -> Cell:
    """The demo's own design: what is like random, and what is not."""
    world = World(
        {"random": 1.0, "diverse": 1.0, "homogeneous": 0.2, "targeted": 3.0},
        budgets=(16, 32, 64, 128, 256),
        reference_budgets=(8, 512),
        items=300,
        curve="straight",
    )

    def measure(rng: np.random.Generator) -> dict[str, tuple[int, int]]:
        found = results(world, rng)
        analysis = analyse_results(found)
        view = analysis.views[0]
        inside = [w for w in view.worths if w.defined and w.least < world.arms[w.arm] < w.most]
        held = sum(w.low <= world.arms[w.arm] <= w.high for w in inside)
        own = view.comparisons[0]
        apart = np.abs(own.contrast)
        unpaired = float(np.sqrt(apart**2 @ (np.diag(view.moments.draws) + np.diag(view.moments.items))))
        paired = float(own.difference.standard_error)
        return {
            **_judge(analysis, world),
            "coverage of m": (len(inside), held),
            "pairing shrinks the error by 30 % or more": (1, int(paired <= 0.7 * unpaired)),
        }

    claims = {"coverage of a difference": "coverage", "anything false shown": 0.05, "coverage of m": "coverage of m"}
    together = {"coverage of a difference: of a study": 5, "coverage of m: of a study": 4}
    return Cell("the demo's design", measure, {**claims, **together}, times=5.0)
