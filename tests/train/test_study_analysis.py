"""The study's arithmetic on planted worlds: y = E + a (m N)^-b, with noise of items, of draws and of both."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from curate.contract.errors import ContractError, RequestError
from train.study.analysis import Moments, Results, analyse, equivalence, holm, worth


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
        found = Moments(bits, size).estimate(np.array([-1.0, 1.0]))
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
        results = Results(cells, [*range(5)], [0], [], bits[:, :, None], size, np.array([]))
        found = worth(results, Moments(bits, size), ("arm", budget), "random")
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
    found = {w.budget: w for w in analyse(table(bits, size, cells)).worths}
    assert found[64].value == pytest.approx(1.5, rel=0.03)
    assert found[128].value == pytest.approx(1.5, rel=0.03)


def test_a_worth_beyond_the_budgets_is_a_bound_and_no_number():
    rng = np.random.default_rng(0)
    bits, size, cells = world(
        rng, {"random": 1.0, "much_better": 9.0, "much_worse": 0.1}, item_sd=0, draw_sd=0.001, rest_sd=0
    )
    worths = {(w.arm, w.budget): w for w in analyse(table(bits, size, cells)).worths}
    assert str(worths["much_better", 64]) == ">4"
    assert str(worths["much_better", 256]) == ">1"
    assert str(worths["much_worse", 64]) == "<1"
    assert str(worths["much_worse", 256]) == "<0.25"


def test_a_flat_reference_bounds_no_worth():
    rng = np.random.default_rng(0)
    bits, size, cells = world(rng, {"random": 1.0, "same": 1.0}, draw_sd=1.0)
    found = analyse(table(bits, size, cells)).worths[0]
    assert (found.low, found.high) == (0.0, np.inf)


def test_one_budget_has_no_curve_and_so_no_worth():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 2.0}, budgets=(64,))
    assert analyse(table(bits, size, cells)).worths == []


def test_without_noise_of_draws_the_interval_is_the_one_over_items():
    rng = np.random.default_rng(1)
    size = np.full(50, 100.0)
    item = rng.normal(0, 0.3, 50)
    bits = np.stack([np.zeros((5, 50)), np.tile(size * item, (5, 1))])
    found = Moments(bits, size).estimate(np.array([-1.0, 1.0]))
    expected = stats.t.interval(0.95, 49, loc=item.mean(), scale=stats.sem(item))
    assert (found.low, found.high) == pytest.approx(expected)


def test_with_items_that_agree_the_interval_is_the_t_interval_over_draws():
    rng = np.random.default_rng(1)
    draw = rng.normal(0, 0.3, 6)
    size = rng.uniform(50, 150, 400)
    bits = np.stack([np.zeros((6, 400)), draw[:, None] * size])
    found = Moments(bits, size).estimate(np.array([-1.0, 1.0]))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 5, loc=draw.mean(), scale=stats.sem(draw)))


def test_contrasts_through_covariances_equal_the_anova_of_the_difference():
    rng = np.random.default_rng(2)
    bits, size = rng.uniform(50, 500, (3, 6, 40)), rng.uniform(20, 90, 40)
    contrast = np.array([1.0, -0.3, -0.7])
    found = Moments(bits, size).estimate(contrast)
    difference = np.tensordot(contrast, bits, axes=1)
    value = (difference.sum(axis=1) / size.sum()).mean()
    r = (difference - value * size) / size.mean()
    draws = r.mean(axis=1).var(ddof=1) / 6
    left = r - r.mean(axis=1, keepdims=True) - r.mean(axis=0)
    items = max(r.mean(axis=0).var(ddof=1) / 40 - (left**2).sum() / (5 * 39) / 240, 0)
    assert (found.value, found.variance_draws, found.variance_items) == pytest.approx((value, draws, items))
    assert found.degrees_of_freedom == pytest.approx(min((draws + items) ** 2 / (draws**2 / 5), 39))


def test_fewer_than_five_draws_speak_of_items_only_and_say_so():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 4.0}, draws=4)
    analysis = analyse(table(bits, size, cells))
    assert analysis.covers == "items"
    assert np.isnan(analysis.levels["arm", 64].low)
    assert "on these draws" in analysis.headline
    assert analysis.comparisons[0].difference.variance_draws == 0


def test_the_four_verdicts_are_four_sentences():
    rng = np.random.default_rng(5)
    arms = {"random": 1.0, "good": 2.5, "bad": 0.4, "same": 1.0}
    bits, size, cells = world(rng, arms, items=400, item_sd=0.02, draw_sd=0.002, rest_sd=0.02)
    noisy = [c for c, (arm, _) in enumerate(cells) if arm == "random"]
    loud = np.concatenate([bits, bits[noisy] + size * rng.normal(0, 0.3, (2, 5, 1))])
    analysis = analyse(table(loud, size, [*cells, ("noisy", 64), ("noisy", 256)]))
    assert {(c.arm, c.verdict) for c in analysis.comparisons} == {
        ("good", "better"),
        ("bad", "worse"),
        ("same", "equivalent"),
        ("noisy", "not shown"),
    }
    said = dict(sentence.split(": ", 1) for sentence in analysis.sentences)
    assert said["good"].startswith("at 64 examples better than random by 0.")
    assert said["bad"].startswith("at 64 examples worse than random by 0.")
    assert said["same"].startswith("at 64 examples equivalent to random within 0.02 bits per byte")
    assert said["noisy"].startswith("at 64 examples no difference from random was shown (")
    assert analysis.headline.startswith("One example chosen by good was worth 2.")
    assert analysis.sentences[0].startswith("good") and analysis.sentences[-1].startswith("bad")


def test_the_headline_says_something_where_nothing_was_shown():
    rng = np.random.default_rng(5)
    bits, size, cells = world(rng, {"random": 1.0, "arm": 1.0}, draw_sd=0.2)
    assert (
        analyse(table(bits, size, cells)).headline == "No arm was shown to be better than random at 64 or 256 examples."
    )


def test_the_headline_names_what_was_worse_where_nothing_was_better():
    bits, size, cells = world(np.random.default_rng(5), {"random": 1.0, "bad": 0.3}, item_sd=0.02)
    headline = analyse(table(bits, size, cells)).headline
    assert headline == "No arm was shown to be better than random at 64 or 256 examples; bad was worse."


def test_the_headline_says_so_where_all_arms_are_equivalent():
    bits, size, cells = world(
        np.random.default_rng(5), {"random": 1.0, "a": 1.0}, item_sd=0.0, draw_sd=0.002, rest_sd=0.01
    )
    headline = analyse(table(bits, size, cells)).headline
    assert headline == "Every arm was equivalent to random within 0.02 bits per byte at 64 or 256 examples."


def test_the_headline_speaks_of_bits_where_there_is_no_curve():
    bits, size, cells = world(np.random.default_rng(5), {"random": 1.0, "good": 3.0}, budgets=(64,), item_sd=0.02)
    assert analyse(table(bits, size, cells)).headline.startswith(
        "Examples chosen by good were better than random ones by 0."
    )


def test_equal_arms_reject_no_more_often_than_they_should():
    rng = np.random.default_rng(11)
    rejected = 0
    for _ in range(600):
        bits, size, _ = world(rng, {"random": 1.0, "arm": 1.0}, budgets=(64,), items=40)
        rejected += Moments(bits, size).estimate(np.array([-1.0, 1.0])).p <= 0.05
    assert 0.02 <= rejected / 600 <= 0.08


def test_holm_corrects_step_by_step():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == pytest.approx([1.0, 1.0])


def test_equivalence_is_the_ninety_percent_interval_within_delta():
    rng = np.random.default_rng(4)
    bits, size, _ = world(rng, {"random": 1.0, "arm": 1.0}, budgets=(64,))
    found = Moments(bits, size).estimate(np.array([-1.0, 1.0]))
    half = stats.t.ppf(0.95, found.degrees_of_freedom) * found.standard_error
    edge = max(abs(found.value - half), abs(found.value + half))
    assert equivalence(found, edge) == pytest.approx(0.05)


def test_two_arms_with_the_same_results_differ_by_nothing():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.0}, budgets=(64,))
    bits[1] = bits[0]
    found = analyse(table(bits, size, cells)).comparisons[0]
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
    assert [c.difference.low for c in one.comparisons] == [c.difference.low for c in two.comparisons]


@settings(max_examples=25, deadline=None)
@given(st.floats(-3, 3), st.integers(0, 1000))
def test_a_constant_added_to_an_arm_moves_its_interval_by_that_constant(constant, seed):
    bits, size, _ = world(np.random.default_rng(seed), {"random": 1.0, "arm": 1.2}, budgets=(64,), items=10)
    before = Moments(bits, size).estimate(np.array([-1.0, 1.0]))
    bits[1] += constant * size
    after = Moments(bits, size).estimate(np.array([-1.0, 1.0]))
    assert (after.low - constant, after.high - constant) == pytest.approx((before.low, before.high), abs=1e-9)


def test_the_difference_by_task_is_that_of_its_items():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.3})
    found = analyse(table(bits, size, cells)).tasks["task-1"]["arm", 64]
    inside = np.arange(60) % 2 == 1
    expected = Moments(bits[..., inside], size[inside]).estimate(np.array([-1.0, 0, 1.0, 0]))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


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
        analyse(table(bits, size, cells))


def test_bits_that_are_not_finite_are_named():
    bits, size, cells = world(np.random.default_rng(0), {"random": 1.0, "arm": 1.0}, items=3)
    bits[2, 1, 1] = np.nan
    with pytest.raises(ContractError, match="bits of item item-0001 under arm arm, draw 1 are not finite"):
        analyse(table(bits, size, cells))
