"""Options for a whole column of rows: style and order drawn, the block and the answers laid out.

Choices that are the same for all rows have few layouts, which are looked up; those that each row brings are laid out one by
one. Both give what ``draw_options`` and ``unshown`` give (curate/template/options.py).
"""

from __future__ import annotations

from math import factorial

import numpy as np
import polars as pl

from curate.render.expressions import SPACES
from curate.render.list_columns import texts as texts_column
from curate.template.options import MARKS, STYLES, Options, fitting, lay_out, permutation, unshown

FEW = 5  # choices whose orders are counted off; of more they are drawn step by step
_ALWAYS = fitting(("a\n", "b\n"))[0]  # the style of options that no other can show
_STYLES = (*STYLES, _ALWAYS)
_MOST_LAYOUTS = 1 + len(STYLES) * factorial(FEW)

# a layout is: block, answer (what the target says), answers (that of each choice, as shown), options_style, place (of the right one)


def same_choices(
    lists: list[tuple[str, ...]], which: np.ndarray, shown: np.ndarray, number: np.ndarray, label: np.ndarray
) -> pl.DataFrame:
    """The layouts of n rows whose choices are one of these lists, of at most FEW each. which (n,): of each row, the list's
    number; shown (n,): whether the options are; number (n,): the draws of style and order, as ``draw_options`` takes them;
    label (n,): the right choice."""
    code = which * _MOST_LAYOUTS  # 0: not shown; else one more than the number of style and order
    for i, choices in enumerate(lists):
        styles, orders = np.uint64(len(fitting(choices))), np.uint64(factorial(len(choices)))
        drawn = (number % styles * orders + number // styles % orders).astype(np.int64) + 1
        code += np.where(shown & (which == i), drawn, 0)
    codes, layout = np.unique(code, return_inverse=True)
    laid = [_layout(lists[one // _MOST_LAYOUTS], one % _MOST_LAYOUTS) for one in codes.tolist()]
    sizes = np.asarray([len(one.answers) for one in laid])
    starts = (np.cumsum(sizes) - sizes)[layout]
    place = np.concatenate([np.argsort(one.order) for one in laid])[starts + label].astype(np.int32)
    flat = pl.Series([text for one in laid for text in one.answers], dtype=pl.String)
    return pl.DataFrame(
        [
            pl.Series("block", [one.block for one in laid], dtype=pl.String).gather(layout),
            flat.gather(starts + place).alias("answer"),
            texts_column("answers", [one.answers for one in laid]).gather(layout),
            pl.Series("options_style", [one.style for one in laid], dtype=pl.String).gather(layout),
            pl.Series("place", place),
        ]
    )


def _layout(choices: tuple[str, ...], code: int) -> Options:
    if code == 0:
        return unshown(choices)
    style, order = divmod(code - 1, factorial(len(choices)))
    return lay_out(choices, fitting(choices)[style], permutation(len(choices), order))


def can_be_shown(choices: pl.Expr) -> pl.Expr:
    """Whether the choices of a row can be told apart; else it is the engine's, which says so."""
    blank = choices.list.eval(pl.element().str.strip_chars(SPACES) == "").list.any()
    return (choices.list.len() >= 2) & (choices.list.n_unique() == choices.list.len()) & ~blank


def own_choices(choices: pl.Series, shown: np.ndarray, number: np.ndarray, label: np.ndarray) -> pl.DataFrame:
    """The layouts of n rows with choices of their own, all of which ``can_be_shown``. choices (n,): List(String).

    Cost: about seven microseconds a row; ``draw_options`` looks at each style of each row, and takes thirty."""
    fits = _fitting(choices)
    many = fits.sum(axis=0).astype(np.uint64)
    nth = (number % many).astype(np.int64)
    style = np.argmax(fits & (np.cumsum(fits, axis=0) - 1 == nth), axis=0).tolist()
    drawn = zip(choices.to_list(), shown.tolist(), style, (number // many).tolist(), strict=True)
    laid = [
        lay_out(tuple(own), _STYLES[one], permutation(len(own), rest))
        if yes
        else Options("", tuple(own), tuple(range(len(own))), None)
        for own, yes, one, rest in drawn
    ]
    place = [one.place(right) for one, right in zip(laid, label.tolist(), strict=True)]
    answers = [one.answers for one in laid]
    return pl.DataFrame(
        [
            pl.Series("block", [one.block for one in laid], dtype=pl.String),
            pl.Series("answer", [own[i] for own, i in zip(answers, place, strict=True)], dtype=pl.String),
            texts_column("answers", answers),
            pl.Series("options_style", [one.style for one in laid], dtype=pl.String),
            pl.Series("place", place, dtype=pl.Int32),
        ]
    )


def _fitting(choices: pl.Series) -> np.ndarray:
    """Which styles can show the choices of which rows, as ``fitting`` says: bool (styles, n)."""
    counts, flat = choices.list.len().to_numpy().astype(np.int64), choices.explode()
    starts = np.cumsum(counts) - counts
    barred = {bar for style in STYLES for bar in style.barred}
    holds = {bar: flat.str.contains(bar, literal=True).to_numpy() for bar in barred}
    holds = {bar: np.logical_or.reduceat(texts, starts) for bar, texts in holds.items()}
    lengths = np.add.reduceat(flat.str.len_chars().to_numpy().astype(np.int64), starts)
    fits = [
        (lengths <= style.longest)
        & (counts <= (len(MARKS[style.marks]) if style.marks else np.inf))
        & ~np.any([holds[bar] for bar in style.barred], axis=0)
        for style in STYLES
    ]
    return np.asarray([*fits, ~np.any(fits, axis=0)])
