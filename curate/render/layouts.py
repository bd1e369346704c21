"""Every way to show each list of choices, laid out beforehand, so that a whole column of rows looks its own up."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import factorial
from typing import NamedTuple

import numpy as np
import polars as pl

from curate.template.options import Options, fitting, lay_out, permutation, unshown

MOST_CHOICES = 5  # of more there are too many orders to lay them all out beforehand
_NONE = Options("", (), (), None)


class Tables(NamedTuple):
    """Layouts as columns, by their number. flat: the answers, MOST_CHOICES a layout; places[layout, label]: where the choice
    stands."""

    blocks: pl.Series
    answers: pl.Series
    styles: pl.Series
    flat: pl.Series
    places: np.ndarray


def _tabulated(layouts: list[Options]) -> Tables:
    padded = [[*one.answers, *[None] * (MOST_CHOICES - len(one.answers))] for one in layouts]
    places = np.full((len(layouts), MOST_CHOICES), 0, dtype=np.int32)
    for code, one in enumerate(layouts):
        for place, label in enumerate(one.order):
            places[code, label] = place
    return Tables(
        blocks=pl.Series([one.block for one in layouts], dtype=pl.String),
        answers=pl.Series([list(one.answers) for one in layouts], dtype=pl.List(pl.String)),
        styles=pl.Series([one.style for one in layouts], dtype=pl.String),
        flat=pl.Series([text for texts in padded for text in texts], dtype=pl.String),
        places=places,
    )


@dataclass
class Layouts:
    """The layouts so far; number 0 is of templates without choices. A list of choices is laid out when it is first asked for."""

    laid: list[Options] = field(default_factory=lambda: [_NONE])
    starts: dict[tuple[tuple[str, ...], bool], int] = field(default_factory=dict)
    tables: Tables = field(default_factory=lambda: _tabulated([_NONE]))

    def of(
        self, choices: tuple[str, ...], shown: bool, number: np.ndarray, label: np.ndarray
    ) -> tuple[pl.Series, pl.Series, pl.Series]:
        """``layout`` (UInt32), ``place`` (Int32) of the right one and ``answer`` (its text in the target) for each row.

        number: the draws of style and order, as ``draw_options`` takes them; label: the right choice of each row.
        """
        start = self._start(choices, shown)
        code = np.full(len(number), start)
        if shown:
            styles, orders = np.uint64(len(fitting(choices))), np.uint64(factorial(len(choices)))
            style, rest = number % styles, number // styles
            code = start + (style * orders + rest % orders).astype(np.int64)
        place = self.tables.places[code, label]
        return (
            pl.Series("layout", code.astype(np.uint32)),
            pl.Series("place", place),
            self.tables.flat.gather(code * MOST_CHOICES + place).alias("answer"),
        )

    def _start(self, choices: tuple[str, ...], shown: bool) -> int:
        """The number of the first layout of these choices: style by style, order by order."""
        key = (choices, shown)
        if key not in self.starts:
            self.starts[key] = len(self.laid)
            self.laid += _every(choices) if shown else [unshown(choices)]
            self.tables = _tabulated(self.laid)
        return self.starts[key]


def _every(choices: tuple[str, ...]) -> list[Options]:
    orders = [permutation(len(choices), i) for i in range(factorial(len(choices)))]
    return [lay_out(choices, style, order) for style in fitting(choices) for order in orders]
