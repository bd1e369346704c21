"""Results of several models and tasks with a few seeds: pooled spread, m, the best of several, other models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from curate.contract.errors import ContractError, RequestError
from train.study.records import Pooled, analyse_records, curse, hurt
from train.study.transfer import transfer

BUDGETS = (500, 1000, 2000, 4000)


def record(
    rng: np.random.Generator,
    gains: dict[str, dict[str, float]],
    *,
    tasks: int = 3,
    seeds: int = 3,
    sd: float = 0.5,
    slope: float = 1.0,
) -> pa.Table:
    """gains: of each model those of its arms, in points; scores are percent, higher is better."""
    rows = []
    for model, arms in gains.items():
        for task in range(tasks):
            for seed in range(seeds):
                shared = rng.normal(0, 1)
                for arm, gain in {"Random": 0.0, **arms}.items():
                    for budget in BUDGETS:
                        score = 40 + 5 * task + gain + slope * np.log2(budget / 500) + shared + rng.normal(0, sd)
                        where = f"r.csv:{len(rows) + 2}"
                        rows.append(
                            {
                                "model": model,
                                "arm": arm,
                                "budget": budget,
                                "seed": seed,
                                "item": f"t{task}",
                                "value": score,
                                "where": where,
                            }
                        )
    return pa.Table.from_pylist(rows)


def analysed(table: pa.Table, **how: Any) -> Any:
    return analyse_records(table, reference="Random", **{"higher_is_better": True, **how})


def test_the_pooled_interval_is_that_of_a_randomised_block_design():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (6, 1)) + rng.normal(0, 2, (1, 4)) + rng.normal(0, 0.5, (6, 4))
    found = Pooled(values).estimate(np.array([1.0, -1, 0, 0, 0, 0]))
    cells, seeds = np.repeat(np.arange(6), 4), np.tile(np.arange(4), 6)
    design = np.column_stack([np.eye(6)[cells], np.eye(4)[seeds][:, 1:]])
    fitted, rest, *_ = np.linalg.lstsq(design, values.reshape(-1), rcond=None)
    error = np.sqrt(rest[0] / 15 * 2 / 4)
    assert float(found.value) == pytest.approx(fitted[0] - fitted[1])
    assert (float(found.standard_error), float(found.degrees_of_freedom)) == (pytest.approx(error), 15)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 15, loc=fitted[0] - fitted[1], scale=error))


def test_with_three_seeds_the_pooled_interval_covers_and_shows_more_than_seeds_alone():
    rng = np.random.default_rng(0)
    covered = shown = alone = 0
    for _ in range(300):
        block = analysed(record(rng, {"m": {"a": 1.0}}, tasks=1)).blocks[0]
        gap = block.gaps[0]
        covered += gap.difference.low <= 1.0 <= gap.difference.high
        shown += gap.difference.p <= 0.05
        apart = block.values[block.cells.index(("a", 500))] - block.values[block.cells.index(("Random", 500))]
        alone += stats.ttest_1samp(apart, 0).pvalue <= 0.05  # pyright: ignore
    assert 0.92 <= covered / 300 <= 0.98
    assert shown > 1.5 * alone


def test_an_arm_that_gains_is_better_on_every_task_and_in_their_mean():
    found = analysed(record(np.random.default_rng(0), {"m": {"good": 4.0, "same": 0.0, "bad": -4.0}}))
    for gaps in (*[block.gaps for block in found.blocks], found.means["m"]):
        verdicts = {g.arm: set() for g in gaps}
        for g in gaps:
            verdicts[g.arm].add(g.verdict)
        assert verdicts["good"] == {"better"} and verdicts["bad"] == {"worse"}
    by_hand = np.mean([block.gaps[0].difference.value for block in found.blocks])
    assert found.means["m"][0].difference.value == pytest.approx(by_hand)


def test_a_record_of_losses_is_read_the_other_way_round():
    table = record(np.random.default_rng(0), {"m": {"good": 4.0}})
    turned = table.set_column(
        table.column_names.index("value"), "value", pa.array([100 - v for v in table["value"].to_pylist()])
    )
    assert {g.verdict for g in analysed(turned, higher_is_better=False).means["m"]} == {"better"}


def test_m_is_undefined_where_the_reference_does_not_get_better():
    flat = analysed(record(np.random.default_rng(0), {"m": {"a": 1.0}}, slope=0.0))
    assert all(not w.defined for block in flat.blocks for w in block.worths)
    rising = analysed(record(np.random.default_rng(0), {"m": {"a": 1.0}}, sd=0.05))
    m = {w.budget: w for w in rising.blocks[0].worths}
    assert m[1000].low <= 2.0 <= m[1000].high and m[1000].value == pytest.approx(2.0, rel=0.1)


def test_the_best_of_many_that_are_alike_seems_to_gain_and_does_not():
    rng = np.random.default_rng(0)
    found = [curse(analysed(record(rng, {"m": {f"a{i}": 0.0 for i in range(7)}}, sd=1.0))) for _ in range(20)]
    assert np.mean([c.observed for c in found]) > 0.5
    assert abs(np.mean([c.honest for c in found])) < 0.15
    assert np.mean([c.shrunken for c in found]) < np.mean([c.observed for c in found]) / 2


def test_cells_below_the_untuned_model_are_counted():
    table = record(np.random.default_rng(0), {"m": {"good": 4.0, "bad": -4.0}}, tasks=2, sd=0.01, slope=0.0)
    untuned = pa.Table.from_pylist([{"item": f"t{t}", "model": "m", "value": 40.0 + 5 * t - 2.0} for t in range(2)])
    cells, below, shown = hurt(analysed(table, baseline=untuned))["m"]
    assert (cells, below) == (24, 8) and shown <= below
    with pytest.raises(ContractError, match="the baseline lacks t1 under m; it has t0 under m"):
        analysed(table, baseline=untuned.slice(0, 1))


def test_a_verdict_holds_on_another_model_as_often_as_it_does():
    same = {"a": 3.0, "b": -3.0, "c": 1.0}
    turned = {arm: -gain for arm, gain in same.items()}
    rng = np.random.default_rng(0)
    alike = transfer(analysed(record(rng, {"x": same, "y": same, "z": same}, sd=0.01)))
    assert alike is not None and alike.every.share == alike.shown.share == 1.0
    apart = transfer(analysed(record(rng, {"x": same, "y": turned}, sd=0.01)))
    assert apart is not None and apart.every.share == 0.0 and apart.pairs[0, 1] == 0.0
    chance = transfer(analysed(record(rng, {f"m{i}": {f"a{j}": 0.0 for j in range(6)} for i in range(4)}, sd=1.0)))
    assert chance is not None and chance.every.share is not None and 0.4 < chance.every.share < 0.6
    assert transfer(analysed(record(rng, {"x": same}))) is None


def test_runs_that_are_missing_or_doubled_and_one_arm_are_refused():
    table = record(np.random.default_rng(0), {"m": {"a": 1.0}}, tasks=1)
    with pytest.raises(ContractError, match="1 of 24 scores of t0 under m are missing, first a at 4,000, seed 2;"):
        analysed(table.slice(0, table.num_rows - 1))
    with pytest.raises(
        ContractError, match=r"r.csv:2: Random at 500, seed 0, of t0 under m stands twice, first in r.csv:2"
    ):
        analysed(pa.concat_tables([table, table.slice(0, 1)]))
    with pytest.raises(RequestError, match="there is one arm, Random"):
        analysed(table.filter(pa.array([arm == "Random" for arm in table["arm"].to_pylist()])))
    with pytest.raises(RequestError, match="the reference `Random` is not among the arms; there are a"):
        analysed(table.filter(pa.array([arm == "a" for arm in table["arm"].to_pylist()])))
    with pytest.raises(RequestError, match="t0 under m has one seed"):
        analysed(table.filter(pa.array([seed == 0 for seed in table["seed"].to_pylist()])))
    with pytest.raises(RequestError, match="every value is 1: the metric is constant"):
        analysed(table.set_column(table.column_names.index("value"), "value", pa.array([1.0] * table.num_rows)))
    with pytest.raises(RequestError, match=r"no column for seed; say which it is, as in `--map seed=THEIRS`"):
        analysed(table.drop_columns("seed"))


def test_scores_are_compared_on_the_same_items_and_tasks_or_not_at_all():
    rng = np.random.default_rng(0)
    by_item = pa.concat_tables(
        [
            record(rng, {"m": {"a": 1.0}}, tasks=1).append_column("task", pa.array(["t"] * 24)).drop_columns("item")
            .append_column("item", pa.array([f"i{i}"] * 24))
            for i in range(3)
        ]
    )  # fmt: skip
    values = np.array(by_item["value"].to_pylist()).reshape(3, 3, 2, 4).mean(axis=0)  # item, seed, arm, budget
    block = analysed(by_item).blocks[0]
    assert block.values == pytest.approx(values.transpose(1, 2, 0).reshape(8, 3))
    with pytest.raises(
        ContractError, match="1 of 72 scores of t under m are missing, first a at 4,000, seed 2, item i2"
    ):
        analysed(by_item.slice(0, 71))
    table = record(rng, {"m": {"a": 1.0}}, tasks=2)
    lacks = [row for row in table.to_pylist() if (row["item"], row["arm"], row["budget"]) != ("t1", "a", 500)]
    with pytest.raises(ContractError, match="3 of 24 scores of t1 under m are missing, first a at 500, seed 0;"):
        analysed(pa.Table.from_pylist(lacks))
    apart = [row for row in table.to_pylist() if (row["arm"] == "a") == (row["budget"] == 500)]
    with pytest.raises(RequestError, match="no arm has a budget under m that Random has too"):
        analysed(pa.Table.from_pylist(apart))
    with pytest.raises(RequestError, match=r"r.csv:2: the budget is 0; it is 1 or more, and an untuned model's scores"):
        analysed(pa.Table.from_pylist([{**row, "budget": 0} for row in table.to_pylist()]))
    large = pa.Table.from_pylist([{**row, "seed": row["seed"] + 20260000} for row in table.to_pylist()])
    with pytest.raises(ContractError, match="first a at 4,000, seed 20260002"):
        analysed(large.slice(0, large.num_rows - 1))


def test_an_untuned_model_is_scored_on_the_same_items():
    table = record(np.random.default_rng(0), {"m": {"a": 1.0}}, tasks=1)
    items = pa.concat_tables(
        [
            table.set_column(3 + 1, "item", pa.array([f"i{i}"] * 24)).append_column("task", pa.array(["t"] * 24))
            for i in (0, 1)
        ]
    )

    def untuned(*rows: tuple[str | None, float]) -> float | None:
        own = [
            {"model": "m", "task": "t", "item": i, "value": v, "where": f"b.csv:{n}"} for n, (i, v) in enumerate(rows)
        ]
        return analysed(items, baseline=pa.Table.from_pylist(own)).blocks[0].untuned

    assert untuned(("i0", 1.0), ("i1", 2.0), ("other", 9.0)) == 1.5
    assert untuned((None, 7.0)) == 7.0
    with pytest.raises(ContractError, match="the baseline lacks t under m, item i1; it has t under m"):
        untuned(("i0", 1.0))
    with pytest.raises(ContractError, match=r"b.csv:1: the baseline has another value of i0 already"):
        untuned(("i0", 1.0), ("i0", 2.0), ("i1", 1.0))
    with pytest.raises(RequestError, match="the baseline has no column for value; it has model"):
        analysed(items, baseline=pa.table({"model": ["m"], "where": ["b.csv:1"]}))


def test_where_most_arms_beat_the_reference_so_they_do_on_any_model():
    gains = {"x": {"a": 3.0, "b": 3.0, "c": 3.0, "d": -3.0}, "y": {"a": 3.0, "b": 3.0, "c": -3.0, "d": 3.0}}
    found = transfer(analysed(record(np.random.default_rng(0), gains, sd=0.01)))
    assert found is not None
    assert (found.beats.share, found.beats.chance) == (pytest.approx(2 / 3), pytest.approx(3 / 4))
    assert (found.every.chance, found.every.error) == (0.5, None) and str(found.beats) == "67 % of 72"
    none = transfer(analysed(record(np.random.default_rng(0), {"x": {"a": -3.0}, "y": {"a": -3.0}}, sd=0.01)))
    assert none is not None and none.beats.share is None and str(none.beats) == "none of 0"


def test_arms_within_a_tenth_of_the_gain_are_equivalent_where_the_gain_is_shown():
    rng = np.random.default_rng(0)
    found = analysed(record(rng, {"m": {"same": 0.0, "near": 0.15, "far": 0.6}}, sd=0.05, slope=2.0))  # a gain of 6
    for gaps in (*[block.gaps for block in found.blocks], found.means["m"]):
        verdicts = {arm: {g.verdict for g in gaps if g.arm == arm} for arm in ("same", "near", "far")}
        assert verdicts["same"] == {"equivalent"} and verdicts["far"] == {"better"}
        assert "worse" not in verdicts["near"] and "not shown" not in verdicts["near"]
    flat = analysed(record(rng, {"m": {"same": 0.0}}, sd=0.05, slope=0.0))
    assert {g.verdict for g in flat.means["m"]} == {"not shown"} and flat.means["m"][0].p_equivalent is None
    fixed = analysed(record(rng, {"m": {"same": 0.0}}, sd=0.05, slope=0.0), delta=0.5)
    assert {g.verdict for g in fixed.means["m"]} == {"equivalent"}
    with pytest.raises(RequestError, match="delta is 'some'"):
        analysed(record(rng, {"m": {"same": 0.0}}), delta="some")


def test_arms_that_differ_by_delta_are_seldom_called_equivalent():
    rng = np.random.default_rng(0)
    wrong = [0, 0]
    for _ in range(200):
        found = analysed(record(rng, {"m": {"a": 0.3}}, tasks=2, slope=1.0, sd=0.1))  # a gain of 3
        for k, gaps in enumerate((found.blocks[0].gaps, found.means["m"])):
            wrong[k] += any(g.p_equivalent is not None and g.p_equivalent <= 0.05 for g in gaps)
    assert max(wrong) <= 21  # 5 % of 200, and 3.5 standard errors
