"""How small a difference a design sees: against the noncentral t distribution, and against simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from train.study.moments import Moments
from train.study.power import Components, components, error_of, needed, power, smallest


@pytest.mark.parametrize("free", [4, 9, 30.5])
@pytest.mark.parametrize("centre", [0.0, 1.0, 2.5, 4.0])
def test_power_is_that_of_the_noncentral_t_distribution(free, centre):
    critical = stats.t.ppf(0.975, free)
    expected = stats.nct.sf(critical, free, centre) + stats.nct.cdf(-critical, free, centre)
    assert power(centre, 1.0, free) == pytest.approx(expected, abs=1e-4)


def test_the_smallest_effect_has_a_power_of_80_percent_and_grows_with_the_family():
    one, many = smallest(0.01, 4), smallest(0.01, 4, family=12)
    assert power(one, 0.01, 4) == pytest.approx(0.8, abs=1e-4)
    assert power(many, 0.01, 4, family=12) == pytest.approx(0.8, abs=1e-4)
    assert many > 1.9 * one
    assert smallest(np.inf, 4) == np.inf


def simulated(rng: np.random.Generator, found: Components, draws: int, items: int, effect: float) -> Moments:
    noise = rng.normal(0, np.sqrt(found.draws), (draws, 1)) + rng.normal(0, np.sqrt(found.items), items)
    noise = noise + rng.normal(0, np.sqrt(found.residual), (draws, items))
    bits = np.stack([np.zeros((draws, items)), effect + noise])[:, :, None]
    return Moments(bits, np.ones(items))


@pytest.mark.parametrize(
    "found", [Components(0.0004, 0.01, 0.04), Components(0.0, 0.04, 0.04), Components(0.001, 0.0, 0.01)]
)
def test_the_planned_power_is_the_share_of_simulated_studies_that_show_the_effect(found):
    rng = np.random.default_rng(0)
    draws, items, contrast = 6, 40, np.array([-1.0, 1.0])
    effect = smallest(*error_of(found, draws, items))
    shown = sum(float(simulated(rng, found, draws, items, effect).estimate(contrast).p) <= 0.05 for _ in range(1500))
    assert shown / 1500 == pytest.approx(0.8, abs=0.04)


def test_components_are_found_again_in_what_they_made():
    rng = np.random.default_rng(0)
    planted = Components(0.0004, 0.01, 0.04)
    found = [components(simulated(rng, planted, 8, 60, 0.1), np.array([-1.0, 1.0])) for _ in range(400)]
    for name in ("draws", "items", "residual"):
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(getattr(planted, name), rel=0.15)


def test_what_is_needed_is_the_least_that_sees_the_effect():
    found = Components(0.0004, 0.01, 0.04)
    draws, items = needed(0.02, found, draws=5, items=400)
    assert draws is not None
    assert power(0.02, *error_of(found, draws, 400)) >= 0.8 > power(0.02, *error_of(found, draws - 1, 400))
    assert items is None  # with five draws no number of items shows a difference of one of the draws' deviations
    with_many = needed(0.03, found, draws=20, items=400)[1]
    assert with_many is not None
    assert power(0.03, *error_of(found, 20, with_many)) >= 0.8 > power(0.03, *error_of(found, 20, with_many - 1))
