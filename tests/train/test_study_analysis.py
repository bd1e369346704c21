"""The study's arithmetic on planted worlds: y = E + a (m N)^-b, with noise of items, of draws and of both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from curate.contract.errors import ContractError, RequestError
from train.study.analysis import Analysis, Rule, analyse, equivalence
from train.study.facts import facts
from train.study.moments import Moments, holm
from train.study.say import at, sentences
from train.study.worth import _weights as curve_weights
from train.study.worth import curve, worth


def world(
    rng: np.random.Generator,
    arms: dict[str, float],
    *,
    budgets: tuple[int, ...] = (64, 256),
    draws: int = 5,
    items: int = 60,
    item_sd: float = 0.3,
    draw_sd: float = 0.02,
    rest_sd: float = 0.2,
    straight: bool = False,
) -> tuple[np.ndarray, np.ndarray, list[tuple[str, int]]]:
    """Bits (cells, draws, items), bytes (items,) and the cells. arms: what m each arm plants.

    Every arm has item and draw effects of its own beside those that all share, as trained models have.
    straight: the curve is straight in log N, so that interpolation is exact.
    """
    cells = [(arm, budget) for arm in arms for budget in budgets]
    size = np.round(rng.lognormal(5, 0.5, items)) + 1
    shared = rng.normal(0, 1, items) + rng.normal(0, 0.05, (draws, 1))
    bits = np.empty((len(cells), draws, items))
    for c, (arm, budget) in enumerate(cells):
        n = arms[arm] * budget
        mean = 2.5 - 0.15 * np.log(n / 64) if straight else 1.5 + 4.0 * n**-0.3
        own = (
            rng.normal(0, item_sd, items) + rng.normal(0, draw_sd, (draws, 1)) + rng.normal(0, rest_sd, (draws, items))
        )
        # Bytes and rates are independent, so the ratio of sums has the planted mean.
        bits[c] = size * (mean + shared + own)
    return bits, size, cells


def table(bits: np.ndarray, size: np.ndarray, cells: list[tuple[str, int]], tasks: int = 2) -> pa.Table:
    rows = [
        (arm, budget, draw, 0, f"item-{item:04}", f"task-{item % tasks}", bits[c, draw, item], int(size[item]))
        for c, (arm, budget) in enumerate(cells)
        for draw in range(bits.shape[1])
        for item in range(bits.shape[2])
    ]
    names = ["arm", "budget", "draw", "seed", "item", "task", "bits", "bytes"]
    return pa.table(dict(zip(names, (list(column) for column in zip(*rows, strict=True)), strict=True)))


def moments(bits: np.ndarray, size: np.ndarray) -> Moments:
    """Of bits (cells, draws, items), one seed a draw."""
    return Moments(bits[:, :, None], size)


def judged(rows: pa.Table, **how: Any) -> Analysis:
    """With a margin in bits per byte, where the test does not say otherwise."""
    return analyse(rows, **{"delta": 0.02, **how})


@pytest.mark.parametrize(
    ("item_sd", "draw_sd", "rest_sd"), [(1.0, 0.0, 0.5), (0.5, 0.02, 0.5), (0.2, 0.1, 0.5), (0.1, 0.2, 0.1), (0, 0, 1)]
)
def test_the_interval_covers_the_planted_difference_with_five_draws(item_sd, draw_sd, rest_sd):
    rng = np.random.default_rng(7)
    truth = -0.1
    covered = 0
    worlds = 1000
    for _ in range(worlds):
        size = np.round(rng.lognormal(5, 0.5, 60)) + 1
        noise = rng.normal(0, item_sd, 60) + rng.normal(0, draw_sd, (5, 1)) + rng.normal(0, rest_sd, (5, 60))
        bits = np.stack([np.zeros((5, 60)), size * (truth + noise)])
        found = moments(bits, size).estimate(np.array([-1.0, 1.0]))
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / worlds <= 0.98


def test_the_t_interval_over_draws_alone_would_not_cover():
    """The reason for the two-way interval, and a check that the test above can fail."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        values = -0.1 + rng.normal(0, 1.0, 60).mean() + rng.normal(0, 0.5, (5, 60)).mean(axis=1)
        low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
        covered += low <= -0.1 <= high
    assert covered / 300 < 0.6


@pytest.mark.parametrize(("planted", "budget"), [(1.0, 128), (1.6, 64), (2.2, 128), (0.7, 256)])
def test_the_interval_of_m_covers_the_planted_worth(planted, budget):
    rng = np.random.default_rng(3)
    covered, worlds = 0, 400
    for _ in range(worlds):
        bits, size, cells = world(rng, {"random": 1.0, "arm": planted}, budgets=(64, 128, 256, 512), straight=True)
        found_in = moments(bits, size)
        line = curve(found_in, cells, "random", -1)
        assert line is not None
        found = worth(found_in, ("arm", budget), cells.index(("arm", budget)), line, -1)
        covered += found.low <= planted <= found.high
    assert 0.92 <= covered / worlds <= 0.98


def test_m_of_a_power_law_is_found_between_budgets_a_factor_of_two_apart():
    bits, size, cells = world(
        np.random.default_rng(0),
        {"random": 1.0, "arm": 1.5},
        budgets=(32, 64, 128, 256, 512),
        item_sd=0,
        draw_sd=1e-4,
        rest_sd=0,
    )
    found = {w.budget: w for w in judged(table(bits, size, cells)).views[0].worths}
    assert found[64].value == pytest.approx(1.5, rel=0.03)
    assert found[128].value == pytest.approx(1.5, rel=0.03)


def test_a_fitted_curve_follows_a_power_law_to_a_hundredth_of_its_fall():
    budgets = np.array([8, 16, 32, 64, 128, 256, 512])
    at = np.exp(np.linspace(np.log(8), np.log(512), 400))
    fitted = curve_weights(np.log(budgets), np.log(at), True) @ budgets**-0.3
    assert np.abs(fitted - at**-0.3).max() <= 0.01 * (8**-0.3 - 512**-0.3)
    straight = curve_weights(np.log(budgets), np.log(at), False) @ budgets**-0.3
    assert straight == pytest.approx(np.interp(np.log(at), np.log(budgets), budgets**-0.3))


def test_a_worth_beyond_the_budgets_is_a_bound_and_no_number():
    rng = np.random.default_rng(0)
    bits, size, cells = world(
        rng, {"random": 1.0, "much_better": 9.0, "much_worse": 0.1}, item_sd=0, draw_sd=0.001, rest_sd=0
    )
    worths = {(w.arm, w.budget): w for w in judged(table(bits, size, cells)).views[0].worths}
    assert str(worths["much_better", 64]) == ">4"
    assert str(worths["much_better", 256]) == ">1"
    assert str(worths["much_worse", 64]) == "<1"
    assert str(worths["much_worse", 256]) == "<0.25"


def flat_world(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[tuple[str, int]]]:
    """Two arms alike, neither of which gets better with its budget."""
    cells = [(arm, budget) for arm in ("random", "same") for budget in (64, 256)]
    size = np.full(60, 100.0)
    return size * (2 + rng.normal(0, 1, 60) + rng.normal(0, 0.004, (4, 5, 60))), size, cells


def test_a_flat_reference_has_no_worth():
    bits, size, cells = flat_world(np.random.default_rng(0))
    analysis = analyse(table(bits, size, cells))
    assert [str(w) for w in analysis.views[0].worths] == ["undefined", "undefined"]
    assert "m(N) is undefined: more random examples do not help here" in analysis.headline


def test_a_reference_that_gets_worse_has_no_worth_though_each_step_is_sure():
    """Means of 2.00, 2.02 and 2.04: an arm at 2.03 was said to be worth <0.25 [1.28, 2.15]."""
    rng = np.random.default_rng(0)
    cells = [("random", 64), ("random", 128), ("random", 256), ("arm", 128)]
    size = np.full(60, 100.0)
    means = np.array([2.00, 2.02, 2.04, 2.03])[:, None, None]
    bits = size * (means + rng.normal(0, 0.001, (4, 5, 60)))
    assert [str(w) for w in analyse(table(bits, size, cells)).views[0].worths] == ["undefined"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1.9, 2.3), min_size=3, max_size=5), st.floats(1.8, 2.4), st.integers(0, 10_000))
def test_no_worth_lies_outside_its_own_interval(means, own, seed):
    """Whatever the reference's curve, monotone or not."""
    rng = np.random.default_rng(seed)
    budgets = [32 * 2**k for k in range(len(means))]
    cells = [*(("random", b) for b in budgets), ("arm", 64)]
    bits = 100 * (
        np.array([*means, own])[:, None, None]
        + rng.normal(0, 0.05, (len(cells), 5, 1))
        + rng.normal(0, 0.1, (len(cells), 5, 20))
    )
    for w in analyse(table(bits, np.full(20, 100.0), cells)).views[0].worths:
        assert not w.defined or w.low <= w.value <= w.high


def test_one_budget_has_no_curve_and_so_no_worth():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 2.0}, budgets=(64,))
    assert judged(table(bits, size, cells)).views[0].worths == []


def test_without_noise_of_draws_the_interval_is_the_one_over_items():
    rng = np.random.default_rng(1)
    size = np.full(50, 100.0)
    item = rng.normal(0, 0.3, 50)
    bits = np.stack([np.zeros((5, 50)), np.tile(size * item, (5, 1))])
    found = moments(bits, size).estimate(np.array([-1.0, 1.0]))
    expected = stats.t.interval(0.95, 49, loc=item.mean(), scale=stats.sem(item))
    assert (found.low, found.high) == pytest.approx(expected)


def test_with_items_that_agree_the_interval_is_the_t_interval_over_draws():
    rng = np.random.default_rng(1)
    draw = rng.normal(0, 0.3, 6)
    size = rng.uniform(50, 150, 400)
    bits = np.stack([np.zeros((6, 400)), draw[:, None] * size])
    found = moments(bits, size).estimate(np.array([-1.0, 1.0]))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 5, loc=draw.mean(), scale=stats.sem(draw)))


def test_contrasts_through_covariances_equal_the_anova_of_the_difference():
    rng = np.random.default_rng(2)
    bits, size = rng.uniform(50, 500, (3, 6, 40)), rng.uniform(20, 90, 40)
    contrast = np.array([1.0, -0.3, -0.7])
    found = moments(bits, size).estimate(contrast)
    difference = np.tensordot(contrast, bits, axes=1)
    value = (difference.sum(axis=1) / size.sum()).mean()
    r = (difference - value * size) / size.mean()
    draws = r.mean(axis=1).var(ddof=1) / 6
    left = r - r.mean(axis=1, keepdims=True) - r.mean(axis=0)
    items = max(r.mean(axis=0).var(ddof=1) / 40 - (left**2).sum() / (5 * 39) / 240, 0)
    assert (found.value, found.variance_draws, found.variance_items) == pytest.approx((value, draws, items))
    assert found.degrees_of_freedom == pytest.approx(min(5 * (1 + 3 / 5 * items / draws) ** 2, 39))


def test_fewer_than_five_draws_speak_of_items_only_and_say_so():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 4.0}, draws=4)
    analysis = judged(table(bits, size, cells))
    assert analysis.covers == "items"
    assert np.isnan(analysis.views[0].levels["arm", 64].low)
    assert "on these draws" in analysis.headline
    assert analysis.views[0].comparisons[0].difference.variance_draws == 0


def test_the_four_verdicts_are_four_sentences():
    rng = np.random.default_rng(5)
    arms = {"random": 1.0, "good": 2.5, "bad": 0.4, "same": 1.0}
    bits, size, cells = world(rng, arms, items=400, item_sd=0.02, draw_sd=0.002, rest_sd=0.02)
    noisy = [c for c, (arm, _) in enumerate(cells) if arm == "random"]
    loud = np.concatenate([bits, bits[noisy] + size * rng.normal(0, 0.3, (2, 5, 1))])
    analysis = judged(table(loud, size, [*cells, ("noisy", 64), ("noisy", 256)]))
    assert {(c.arm, c.verdict) for c in analysis.views[0].comparisons} == {
        ("good", "better"),
        ("bad", "worse"),
        ("same", "equivalent"),
        ("noisy", "not shown"),
    }
    said = dict(sentence.split(": ", 1) for sentence in sentences(analysis, analysis.views[0]))
    assert said["good"].startswith("better than random at 64 and 256 examples, by 0.")
    assert said["bad"].startswith("worse than random at 64 and 256 examples, by 0.")
    assert said["same"] == "equivalent to random at 64 and 256 examples, within 0.02 bits per byte."
    assert said["noisy"].startswith("no difference from random was shown at 64 and 256 examples (")
    assert analysis.headline.startswith("One example chosen by good was worth 2.")
    assert next(iter(said)) == "good" and list(said)[-1] == "bad"


def test_budgets_that_follow_one_another_are_said_as_a_range():
    bits, size, cells = world(np.random.default_rng(5), {"random": 1.0, "a": 1.0}, budgets=(16, 32, 64, 128, 256, 512))
    analysis = judged(table(bits, size, cells))
    found = {c.budget: c for c in analysis.views[0].comparisons}
    assert at(analysis, [found[b] for b in (16, 64, 128, 256)]) == "16 and 64 to 256"
    assert at(analysis, [found[b] for b in (16, 32, 512)], "or") == "16, 32 or 512"


def test_the_headline_says_something_where_nothing_was_shown():
    rng = np.random.default_rng(5)
    bits, size, cells = world(rng, {"random": 1.0, "arm": 1.0}, draw_sd=0.2)
    assert (
        judged(table(bits, size, cells)).headline == "No arm was shown to be better than random at 64 or 256 examples."
    )


def test_the_headline_names_what_was_worse_where_nothing_was_better():
    bits, size, cells = world(np.random.default_rng(5), {"random": 1.0, "bad": 0.3}, item_sd=0.02)
    headline = judged(table(bits, size, cells)).headline
    assert headline == "No arm was shown to be better than random at 64 or 256 examples; bad was worse."


def test_the_headline_says_so_where_all_arms_are_equivalent():
    bits, size, cells = world(
        np.random.default_rng(5), {"random": 1.0, "a": 1.0}, item_sd=0.0, draw_sd=0.002, rest_sd=0.01
    )
    headline = judged(table(bits, size, cells)).headline
    assert headline == "Every arm was equivalent to random within 0.02 bits per byte at 64 or 256 examples."


def test_the_headline_speaks_of_bits_where_there_is_no_curve():
    bits, size, cells = world(np.random.default_rng(5), {"random": 1.0, "good": 3.0}, budgets=(64,), item_sd=0.02)
    assert judged(table(bits, size, cells)).headline.startswith(
        "Examples chosen by good were better than random ones by 0."
    )


def test_equal_arms_reject_no_more_often_than_they_should():
    rng = np.random.default_rng(11)
    rejected = 0
    for _ in range(600):
        bits, size, _ = world(rng, {"random": 1.0, "arm": 1.0}, budgets=(64,), items=40)
        rejected += moments(bits, size).estimate(np.array([-1.0, 1.0])).p <= 0.05
    assert 0.02 <= rejected / 600 <= 0.08


def test_holm_corrects_step_by_step():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == pytest.approx([1.0, 1.0])


def test_equivalence_is_the_ninety_percent_interval_within_delta():
    rng = np.random.default_rng(4)
    bits, size, cells = world(rng, {"random": 1.0, "arm": 1.0}, budgets=(64,))
    found = moments(bits, size).estimate(np.array([-1.0, 1.0]))
    half = stats.t.ppf(0.95, found.degrees_of_freedom) * found.standard_error
    edge = float(max(abs(found.value - half), abs(found.value + half)))
    view = analyse(table(bits, size, cells), delta=edge).views[0]
    assert equivalence(view, view.comparisons[0], Rule(edge, None, -1)) == pytest.approx(0.05)


def test_a_margin_as_a_share_carries_the_error_of_the_gain():
    """The test of "less than a tenth of the gain" is the one of the contrast: difference less a tenth of the gain."""
    bits, size, cells = world(np.random.default_rng(4), {"random": 1.0, "arm": 1.0}, item_sd=0.02, draw_sd=0.01)
    view = analyse(table(bits, size, cells)).views[0]
    difference, gain = np.array([-1.0, 0, 1, 0]), np.array([0.1, -0.1, 0, 0])
    found = moments(bits, size)
    sides = [found.estimate(difference - gain).p_below, found.estimate(difference + gain).p_above]
    assert equivalence(view, view.comparisons[0], Rule("10%", 0.1, -1)) == pytest.approx(max(sides))
    assert view.margin == pytest.approx(float(0.1 * (found.mean[0] - found.mean[1])))


def test_where_the_gain_of_the_reference_is_not_shown_nothing_is_called_equivalent():
    rng = np.random.default_rng(5)
    bits, size, cells = flat_world(rng)
    analysis = analyse(table(bits, size, cells))
    assert analysis.views[0].margin is None
    assert {c.verdict for c in analysis.views[0].comparisons} == {"not shown"}
    assert {c.verdict for c in judged(table(bits, size, cells)).views[0].comparisons} == {"equivalent"}


def test_two_arms_with_the_same_results_differ_by_nothing():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.0}, budgets=(64,))
    bits[1] = bits[0]
    found = judged(table(bits, size, cells)).views[0].comparisons[0]
    assert found.difference.p == pytest.approx(1.0)
    assert found.verdict == "equivalent"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_rows_does_not_matter(seed):
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "a": 1.3, "b": 0.9}, items=8)
    rows = table(bits, size, cells)
    shuffled = rows.take(np.random.default_rng(seed).permutation(rows.num_rows))
    one, two = analyse(rows), analyse(shuffled)
    assert one.headline == two.headline
    assert [c.difference.low for c in one.views[0].comparisons] == [c.difference.low for c in two.views[0].comparisons]


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3), st.integers(0, 1000))
def test_a_constant_added_to_an_arm_moves_its_interval_by_that_constant(constant, seed):
    bits, size, _ = world(np.random.default_rng(seed), {"random": 1.0, "arm": 1.2}, budgets=(64,), items=10)
    before = moments(bits, size).estimate(np.array([-1.0, 1.0]))
    bits[1] += constant * size
    after = moments(bits, size).estimate(np.array([-1.0, 1.0]))
    assert (after.low - constant, after.high - constant) == pytest.approx((before.low, before.high), abs=1e-9)


def test_the_difference_by_task_is_that_of_its_items():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.3})
    analysis = analyse(table(bits, size, cells))
    found = analysis.by_task(analysis.views[0])["task-1"][0]
    inside = np.arange(60) % 2 == 1
    expected = moments(bits[..., inside], size[inside]).estimate(np.array([-1.0, 0, 1.0, 0]))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


# --- the untuned model, evaluation sets, questions, factors -----------------------------------------------------------


def with_untuned(rows: pa.Table, bits: np.ndarray, name: str = "untuned") -> pa.Table:
    """A table with rows of the model as it was. bits: of each item."""
    items = sorted(set(rows["item"].to_pylist()))
    size = dict(zip(rows["item"].to_pylist(), rows["bytes"].to_pylist(), strict=True))
    task = dict(zip(rows["item"].to_pylist(), rows["task"].to_pylist(), strict=True))
    own = [(name, 0, 0, 0, item, task[item], float(b), size[item]) for item, b in zip(items, bits, strict=True)]
    columns = (list(column) for column in zip(*own, strict=True))
    return pa.concat_tables(
        [rows, pa.table(dict(zip(rows.column_names[:8], columns, strict=True)))], promote_options="default"
    )


def test_every_arm_is_compared_with_the_untuned_model_and_a_sentence_says_where_tuning_hurt():
    rng = np.random.default_rng(5)
    cells = [(arm, budget) for arm in ("random", "bad") for budget in (64, 256)]
    size = np.full(60, 100.0)
    means = np.array([1.98, 1.9, 2.05, 2.0])[:, None, None]  # bad with 256 examples is where the model was
    bits = size * (
        means + rng.normal(0, 1, 60) * 0.1 + rng.normal(0, 0.002, (4, 5, 1)) + rng.normal(0, 0.01, (4, 5, 60))
    )
    before = bits[3].mean(axis=0) - size * (means[3, 0, 0] - 2.0)
    analysis = analyse(with_untuned(table(bits, size, cells), before))
    verdicts = {(c.arm, c.budget): c.verdict for c in analysis.views[0].gains}
    expected = {("random", 64): "better", ("random", 256): "better", ("bad", 64): "worse", ("bad", 256): "equivalent"}
    assert verdicts == expected
    assert "Tuning made the model worse: bad at 64 examples." in analysis.headline
    assert analysis.headline.endswith("Tuning is not shown to have changed the model: bad at 256 examples.")
    assert ("untuned", 0) in analysis.views[0].levels


def test_the_gap_to_the_untuned_model_is_the_t_interval_over_draws_where_items_agree():
    rng = np.random.default_rng(1)
    size = rng.uniform(50, 150, 60).round()
    bits = size * (2 + rng.normal(0, 0.02, (1, 5, 1))) * np.ones((1, 5, 60))
    rows = with_untuned(table(bits, size, [("random", 64)]), 2.1 * size)
    gap = analyse(rows).views[0].gains[0].difference
    draws = bits[0, :, 0] / size[0] - 2.1
    assert (gap.low, gap.high) == pytest.approx(stats.t.interval(0.95, 4, loc=draws.mean(), scale=stats.sem(draws)))


def test_an_untuned_model_that_lacks_an_item_is_named():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.0}, items=3)
    rows = with_untuned(table(bits, size, cells), size)
    with pytest.raises(ContractError, match="results of untuned lack item item-0002"):
        analyse(rows.slice(0, rows.num_rows - 1))


def test_a_balanced_average_weighs_groups_alike_whatever_their_size():
    bits, size, cells = world(np.random.default_rng(3), {"random": 1.0, "arm": 1.2}, items=30)
    group = np.array(["a"] * 25 + ["b"] * 5)
    rows = table(bits, size, cells)
    of_item = {f"item-{i:04}": g for i, g in enumerate(group.tolist())}
    rows = rows.append_column("in.even", pa.array([of_item[i] for i in rows["item"].to_pylist()]))
    level = analyse(rows).views[0].levels["arm", 64].value
    c = cells.index(("arm", 64))
    rates = [bits[c][:, group == g].sum() / (5 * size[group == g].sum()) for g in "ab"]
    assert level == pytest.approx(np.mean(rates))


def test_the_variance_of_a_balanced_average_is_that_of_its_groups():
    """Over items: a quarter of the sum of the two groups' own squared standard errors, nearly (the groups' sizes are given)."""
    rng = np.random.default_rng(3)
    size = np.ones(400)
    group = np.array([0] * 300 + [1] * 100)
    bits = np.tile(rng.normal(0, np.where(group == 0, 1.0, 3.0), 400), (1, 5, 1, 1)).reshape(1, 5, 1, 400)
    found = Moments(bits, size, groups=group).estimate(np.array([1.0]))
    apart = [bits[0, 0, 0, group == g].var(ddof=1) / (group == g).sum() for g in (0, 1)]
    assert found.standard_error**2 == pytest.approx(sum(apart) / 4, rel=0.02)


def test_each_evaluation_set_has_its_own_view_and_one_family_covers_all():
    bits, size, cells = world(np.random.default_rng(3), {"random": 1.0, "a": 1.2, "b": 0.9})
    rows = table(bits, size, cells)
    target = pa.array(["" if int(item[-4:]) < 20 else None for item in rows["item"].to_pylist()])
    every = pa.array([""] * rows.num_rows)
    analysis = analyse(rows.append_column("in.breadth", every).append_column("in.target", target))
    assert [(view.name, len(view.results.items)) for view in analysis.views] == [("breadth", 60), ("target", 20)]
    raw = [float(c.difference.p) for view in analysis.views for c in view.comparisons]
    assert [c.p_holm for view in analysis.views for c in view.comparisons] == pytest.approx(holm(raw))
    assert "On breadth, " in analysis.headline and "On target, " in analysis.headline


def test_an_evaluation_set_compares_the_arms_that_have_rows_in_it():
    bits, size, cells = world(np.random.default_rng(3), {"random": 1.0, "a": 1.2, "b": 0.9})
    rows = with_column(table(bits, size, cells), "in.breadth", lambda row: None if row["arm"] == "b" else "")
    rows = with_column(
        rows, "in.target", lambda row: "" if row["arm"] in ("random", "b") and row["item"] < "item-0030" else None
    )
    breadth, target = analyse(rows).views
    assert [(c.arm, c.budget) for c in breadth.comparisons] == [("a", 64), ("a", 256)]
    assert [(c.arm, c.budget) for c in target.comparisons] == [("b", 64), ("b", 256)]
    assert [len(view.results.items) for view in (breadth, target)] == [60, 30]
    expected = moments(bits[:, :, :30], size[:30]).mean
    assert target.comparisons[0].difference.value == pytest.approx(expected[cells.index(("b", 64))] - expected[0])


def test_the_questions_asked_are_the_family_and_the_headline_answers_them():
    bits, size, cells = world(
        np.random.default_rng(5), {"random": 1.0, "good": 2.5, "bad": 0.4}, item_sd=0.02, draw_sd=0.002
    )
    asked = [["good@64", "random@256"], ["good", "bad"]]
    analysis = analyse(table(bits, size, cells), compare=asked)
    first, second = analysis.views[0].answers
    assert (first.arm, first.budget, first.against, first.at) == ("good", 64, "random", 256)
    assert (second.budget, second.verdict) == (None, "better")
    by_cell = moments(bits, size).mean
    mean = [by_cell[[cells.index((arm, b)) for b in (64, 256)]].mean() for arm in ("good", "bad")]
    assert second.difference.value == pytest.approx(mean[0] - mean[1])
    assert analysis.headline.startswith("good with 64 examples was worse than random with 256 examples by 0.")
    assert "good was better than bad in the mean over their budgets by 0." in analysis.headline
    raw = [float(c.difference.p) for c in (first, second)]
    assert [c.p_holm for c in (first, second)] == pytest.approx(holm(raw))


def test_a_question_is_asked_in_the_sets_that_compare_both_its_arms():
    bits, size, cells = world(np.random.default_rng(3), {"random": 1.0, "a": 1.2, "b": 0.9})
    rows = with_column(table(bits, size, cells), "in.one", lambda row: None if row["arm"] == "b" else "")
    rows = with_column(rows, "in.two", lambda row: "")
    one, two = analyse(rows, compare=[["a@64", "b@64"]]).views
    assert (len(one.answers), len(two.answers)) == (0, 1)
    assert analyse(rows, compare=[["a@64", "b@64"]]).headline.startswith(("On two, ", "on two, "))


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (["fl@64", "random@64"], "there is no arm `fl`; there are random, a"),
        (["a@65", "random@64"], "a has no budget 65; it has 64, 256"),
        (["a", "random@64"], "names a budget on one side"),
        (["a"], "is no question; give two arms"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(question, said):
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "a": 1.0}, items=3)
    with pytest.raises(RequestError, match=said):
        analyse(table(bits, size, cells), compare=[question])


def test_the_effect_of_a_factor_is_the_mean_over_all_that_have_both_levels():
    bits, size, cells = world(np.random.default_rng(2), {"random": 1.0, "a": 1.3, "random/lora": 0.8, "a/lora": 1.0})
    rows = table(bits, size, cells)
    arms = rows["arm"].to_pylist()
    rows = rows.append_column("factor.arm", pa.array([arm.split("/")[0] for arm in arms]))
    rows = rows.append_column("factor.tuning", pa.array(["lora" if "/" in arm else "full" for arm in arms]))
    effect = analyse(rows).views[0].effects
    assert [(e.factor, e.level, e.first, e.cells) for e in effect] == [("tuning", "lora", "full", 4)]
    by_cell = dict(zip(cells, moments(bits, size).mean, strict=True))
    mean = np.mean([by_cell[f"{arm}/lora", b] - by_cell[arm, b] for arm in ("random", "a") for b in (64, 256)])
    assert effect[0].comparison.difference.value == pytest.approx(mean)


def test_where_a_higher_score_is_better_the_verdicts_turn_around():
    bits, size, cells = world(np.random.default_rng(5), {"random": 1.0, "good": 2.5}, item_sd=0.02, draw_sd=0.002)
    lower = analyse(table(bits, size, cells), delta=0.02).views[0]
    higher = analyse(table(6 * size - bits, size, cells), delta=0.02, higher_is_better=True).views[0]
    assert [c.verdict for c in lower.comparisons] == [c.verdict for c in higher.comparisons] == ["better", "better"]
    assert [str(w) for w in lower.worths] == [str(w) for w in higher.worths]


@pytest.mark.parametrize("delta", ["ten", "0%", "100%", "10", 0.0, -1.0])
def test_a_delta_that_is_none_is_refused(delta):
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "a": 1.0}, items=3)
    with pytest.raises(RequestError, match="it is a difference above 0, or a share of the gain, as in 10%"):
        analyse(table(bits, size, cells), delta=delta)


# --- populations ------------------------------------------------------------------------------------------------------


def test_pools_like_it_widen_the_interval_by_the_share_of_rows_that_draws_have_in_common():
    """With nothing but draws: s2/D + s/(1-s) s2, which for draws of four fifths is five times as wide in variance at D = 5 …"""
    rng = np.random.default_rng(1)
    size = np.full(40, 100.0)
    bits = size * (2 + rng.normal(0, 0.02, (2, 5, 1, 1))) * np.ones((2, 5, 1, 40))
    here = Moments(bits, size).estimate(np.array([1.0, 0]))
    there = Moments(bits, size, overlap=np.array([0.8, 0.0])).estimate(np.array([1.0, 0]))
    assert there.variance_draws / here.variance_draws == pytest.approx(1 + 5 * 4)
    alone = Moments(bits, size, overlap=np.array([0.8, 0.0])).estimate(np.array([0, 1.0]))
    assert alone.variance_draws == pytest.approx(float(Moments(bits, size).estimate(np.array([0, 1.0])).variance_draws))


def test_the_noise_of_training_is_no_property_of_a_pool():
    """Scores that differ by nothing but their seeds: a pool adds nothing, in the mean."""
    rng = np.random.default_rng(1)
    size = np.full(4, 100.0)
    more = []
    for _ in range(400):
        bits = size * (2 + rng.normal(0, 0.02, (1, 8, 2, 1))) * np.ones((1, 8, 2, 4))
        found = Moments(bits, size, overlap=np.array([0.5]))
        assert found.pools is not None
        more.append(float(found.pools[0, 0]))
    assert abs(np.mean(more)) < 4 * np.std(more) / 20


def test_draws_that_hold_the_same_rows_say_nothing_of_other_pools():
    bits, size, _ = world(np.random.default_rng(1), {"random": 1.0, "a": 1.0}, budgets=(64,))
    found = Moments(bits[:, :, None], size, overlap=np.array([0.3, 1.0])).estimate(np.array([-1.0, 1.0]))
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert found.p == 1


def test_with_tasks_as_clusters_the_interval_is_the_one_over_tasks():
    rng = np.random.default_rng(1)
    size = np.ones(60)
    task = np.repeat(np.arange(6), 10)
    effect = rng.normal(0, 1, 6)
    bits = np.tile(effect[task], (1, 5, 1, 1)).reshape(1, 5, 1, 60)
    found = Moments(bits, size, clusters=task).estimate(np.array([1.0]))
    assert (found.low, found.high) == pytest.approx(
        stats.t.interval(0.95, 5, loc=effect.mean(), scale=stats.sem(effect))
    )


def test_five_seeds_of_one_draw_speak_of_seeds_and_four_of_items_alone():
    rng = np.random.default_rng(1)
    bits = 100 * (2 + rng.normal(0, 0.02, (1, 1, 5, 1))) * np.ones((1, 1, 5, 40))
    found = Moments(bits, np.full(40, 100.0))
    own = bits[0, 0, :, 0] / 100
    here = found.estimate(np.array([1.0]))
    assert found.covers == "seeds"
    assert (here.low, here.high) == pytest.approx(stats.t.interval(0.95, 4, loc=own.mean(), scale=stats.sem(own)))
    assert Moments(bits[:, :, :4], np.full(40, 100.0)).covers == "none"


# --- what the data say against a verdict --------------------------------------------------------------------------------


def with_column(rows: pa.Table, name: str, value: Any) -> pa.Table:
    return rows.append_column(name, pa.array([value(row) for row in rows.to_pylist()]))


def test_arms_that_learnt_from_more_text_are_named_before_anything_is_called_better():
    bits, size, cells = world(np.random.default_rng(5), {"random": 1.0, "longest": 2.5}, item_sd=0.02, draw_sd=0.002)
    rows = with_column(table(bits, size, cells), "targets", lambda row: 2500 if row["arm"] == "longest" else 1000)
    analysis = analyse(with_column(rows, "tokens", lambda row: 3000))
    assert analysis.headline.startswith(
        "With 2.5 times the supervised tokens, one example chosen by longest was worth "
    )
    assert (
        "Arms did not learn from as much text: longest 2.5 times the supervised tokens of random"
        in facts(analysis)["caveats"][0]
    )


def test_items_that_stand_in_a_subset_are_named_and_what_they_change_is_told():
    bits, size, cells = world(
        np.random.default_rng(5), {"random": 1.0, "a": 1.0}, item_sd=0.002, draw_sd=0.001, rest_sd=0.002
    )
    bits[2:, :, :3] -= 0.9 * size[:3]  # arm a has seen three of the items
    rows = with_column(table(bits, size, cells), "leaked", lambda row: row["item"] < "item-0003")
    said = facts(judged(rows))["caveats"][0]
    assert said.startswith(
        "3 of 60 evaluation items stand in a subset that was trained on (item-0000, item-0001, item-0002)"
    )
    assert "Without these items: a at 64 equivalent (" in said and "in place of not shown (-0.031" in said


def test_a_run_that_diverged_is_kept_and_what_it_changes_is_told():
    bits, size, cells = world(
        np.random.default_rng(5), {"random": 1.0, "a": 2.5}, draws=6, item_sd=0.002, draw_sd=0.001, rest_sd=0.01
    )
    bits[2, 3] = 11 * size
    rows = with_column(
        table(bits, size, cells), "diverged", lambda row: (row["arm"], row["budget"], row["draw"]) == ("a", 64, 3)
    )
    analysis = analyse(rows)
    assert analysis.views[0].comparisons[0].verdict == "not shown"
    said = facts(analysis)["caveats"][0]
    assert said.startswith(
        "1 run diverged (a at 64, draw 3). They count as what they scored. Without the draw of these: a at 64 better ("
    )


def test_a_run_that_is_missing_is_named():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.0}, items=3)
    rows = table(bits, size, cells)
    with pytest.raises(ContractError, match="0 rows, not 1, for arm arm, budget 256, draw 4, seed 0, item item-0002"):
        analyse(rows.slice(0, rows.num_rows - 1))


def test_a_doubled_row_is_named():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.0}, items=3)
    rows = table(bits, size, cells)
    with pytest.raises(ContractError, match="2 rows, not 1, for arm random, budget 64, draw 0, seed 0, item item-0000"):
        analyse(pa.concat_tables([rows, rows.slice(0, 1)]))


def test_a_missing_reference_arm_is_named():
    bits, size, cells = world(np.random.default_rng(0), {"a": 1.0, "b": 1.0}, items=3)
    with pytest.raises(RequestError, match="the reference arm `random` is not in the results; they hold a, b"):
        judged(table(bits, size, cells))


def test_a_metric_that_is_constant_is_refused():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.0}, items=3)
    with pytest.raises(ContractError, match=r"every run has the same bits \(7\) on every item: the metric is constant"):
        analyse(table(np.full_like(bits, 7.0), size, cells))


def test_bits_that_are_not_finite_are_named():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.0}, items=3)
    bits[2, 1, 1] = np.nan
    with pytest.raises(ContractError, match="bits of item item-0001 under arm arm, draw 1 are not finite"):
        judged(table(bits, size, cells))
