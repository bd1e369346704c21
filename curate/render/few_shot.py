"""Few-shot prompts: solved examples of the same task before the question (FLAN, arXiv 2109.01652, section 2.4; the mixed
zero-shot and few-shot training of Flan 2022, arXiv 2301.13688, section 3.2).

    render: {few_shot: {share: 0.5, shots: [1, 4]}}

The exemplars are rows that are set aside for it and never rendered themselves, so that no answer of the training rows is
seen in a prompt before it is asked for. Which exemplars, how many and in which layout is drawn by the record's id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import draw, draws, uniform
from curate.contract.errors import RequestError, RowSkipped
from curate.rows.fields import loads as fields_of
from curate.rows.token_counts import counter
from curate.template.engine import Engine, Message, Rendered
from curate.template.options import permutation
from curate.template.sets import load_set

REASON = "kept as an exemplar for few-shot prompts"
_LEAST_ROWS = 5  # of a set for each exemplar


@dataclass(frozen=True)
class FewShot:
    """share: of the records that are put after examples. shots: how many. exemplars: set aside for each template set."""

    share: float
    shots: tuple[int, int]
    exemplars: int
    mixed: bool
    max_tokens: int
    tokenizer: str


def few_shot(
    *,
    share: float = 0.5,
    shots: int | list[int] = [1, 4],  # noqa: B006  a recipe's default is read from here, and never changed
    exemplars: int = 64,
    template: Literal["same", "mixed"] = "same",
    max_tokens: int = 1_024,
    tokenizer: str = "words",
) -> FewShot:
    """The options of ``render: few_shot``.

    share: of the records that are put after examples; the others stay without. Anything from 0.1 to 0.9 did better than
        either end in Flan 2022 (figure 4).
    shots: how many examples: a number, or the least and the most, between which it is drawn evenly.
    exemplars: rows set aside for each template set, at most a fifth of its rows.
    template: "same" puts the examples in the record's own template, "mixed" each in one of its own.
    max_tokens: the most that prompt and target may have; examples are left out from the end until they fit.
    tokenizer: what counts the tokens: "words", a tokenizer.json or a Hub id.

    Raises RequestError.
    """
    least, most = shots if isinstance(shots, list) and len(shots) == 2 else (shots, shots)
    if not (isinstance(least, int) and isinstance(most, int) and 1 <= least <= most):
        raise RequestError(
            f"few_shot: shots is {shots}; give a number from 1 on, or the least and the most, as in [1, 4]"
        )
    if not 0 < share <= 1:
        raise RequestError(f"few_shot: share is {share}; it must lie above 0 and at most at 1, as in `share: 0.5`")
    if exemplars < most or max_tokens < 1:
        raise RequestError(
            f"few_shot: {exemplars} exemplars for up to {most} shots in {max_tokens} tokens; set aside as many exemplars as "
            "shots at least, and allow a token or more"
        )
    return FewShot(share, (least, most), exemplars, template == "mixed", max_tokens, tokenizer)


def set_aside(table: pl.DataFrame, options: FewShot, seed: int, folder: Path | None = None) -> pl.Series:
    """The ids of the exemplars: of each set the rows with the smallest draws; none of conversations, which are kept as they are.
    table: id, template_set. folder: the recipe's."""
    names = table[columns.TEMPLATE_SET].unique().drop_nulls().to_list()
    table = table.filter(pl.col(columns.TEMPLATE_SET).is_in([one for one in names if load_set(one, folder).templates]))
    rows = table.select(columns.ID, columns.TEMPLATE_SET).with_columns(
        pl.Series("draw", draws(seed, "render.exemplars", table[columns.ID]))
    )
    nth = pl.struct("draw", columns.ID).rank("ordinal").over(columns.TEMPLATE_SET)
    most = pl.min_horizontal(pl.lit(options.exemplars), pl.len().over(columns.TEMPLATE_SET) // _LEAST_ROWS)
    return rows.filter(nth <= most)[columns.ID].sort()


def drawn(ids: pl.Series, options: FewShot, seed: int) -> np.ndarray:
    """Which records are put after examples: bool (n,)."""
    return uniform(seed, "render.few_shot", ids) < options.share


def exemplars(
    parts: Sequence[Path], render: dict[str, Any], seed: int, folder: Path | None = None
) -> pl.DataFrame | None:
    """The rows that few-shot prompts take their examples from: id, template_set, fields; None where there are no such prompts.
    parts: the shards of the table. render: the options of `render:`."""
    if render.get("few_shot") is None:
        return None
    light = [pl.read_parquet(path, columns=[columns.ID, columns.TEMPLATE_SET]) for path in parts]
    ids = set_aside(pl.concat(light), few_shot(**render["few_shot"]), seed, folder)
    wanted = [columns.ID, columns.TEMPLATE_SET, columns.FIELDS]
    return pl.concat(
        pl.read_parquet(path, columns=wanted).filter(pl.col(columns.ID).is_in(ids.implode())) for path in parts
    )


def set_aside_before(parts: Sequence[Path], render: dict[str, Any]) -> pl.DataFrame | None:
    """The same where a mixture has set them aside: among the rows that it removed. parts: the shards of these."""
    if render.get("few_shot") is None:
        return None
    wanted = [columns.ID, columns.TEMPLATE_SET, columns.FIELDS]
    return pl.concat(
        pl.read_parquet(path, columns=[*wanted, columns.REASON]).filter(pl.col(columns.REASON) == REASON).select(wanted)
        for path in parts
    )


def given(rendered: pl.DataFrame, render: dict[str, Any], seed: int) -> dict[str, int]:
    """How many of the records that were drawn for examples have some, and the least asked. rendered: record, shots."""
    options = few_shot(**render["few_shot"])
    shots = rendered.group_by(columns.RECORD).agg(pl.col(columns.SHOTS).max())
    having, full = (int((shots[columns.SHOTS] >= least).sum()) for least in (1, options.shots[0]))
    asked = int(drawn(shots[columns.RECORD], options, seed).sum())
    return {"drawn": asked, "with_examples": having, "with_the_least_asked": full}


@dataclass(frozen=True)
class Composer:
    """Puts examples before what an engine has rendered. tokens: counts those of a text. ids: of the exemplars. pools: id and raw
    columns of the exemplars of each template set, by id."""

    options: FewShot
    seed: int
    tokens: Callable[[str], int]
    ids: pl.Series
    pools: dict[str, list[tuple[str, dict[str, Any]]]]

    @classmethod
    def of(cls, options: FewShot, exemplars: pl.DataFrame, seed: int, folder: Path | None) -> Composer:
        """exemplars: id, template_set, fields. folder: the recipe's, from which a tokenizer.json of its own is named."""
        pools: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        rows = exemplars.select(columns.ID, columns.TEMPLATE_SET, columns.FIELDS).sort(columns.ID)
        for id, name, fields in rows.iter_rows():
            pools.setdefault(name, []).append((id, fields_of(fields)))
        return cls(options, seed, counter(options.tokenizer, folder), exemplars[columns.ID], pools)

    def compose(self, engine: Engine, id: str, rendered: Rendered) -> Rendered:
        """The rendering with as many examples as fit; as it was where there is none, or where it has several turns."""
        *before, asked, target = rendered.messages
        pool = self.pools.get(engine.set.name, [])
        if not pool or any(message["role"] != "system" for message in before):
            return rendered
        examples = self._examples(engine, id, rendered, pool)
        cued = any(map(_CUED.search, (asked["content"], *(prompt for prompt, _ in examples))))
        layouts = WITHOUT_CUES if cued else LAYOUTS
        layout = layouts[draw(self.seed, "few_shot.layout", id) % len(layouts)]
        left = self.options.max_tokens - sum(self.tokens(message["content"]) for message in (*before, target))
        for shots in range(len(examples), 0, -1):
            text = layout.text(examples[:shots], asked["content"])
            if self.tokens(text) <= left:
                messages = [*before, {"role": "user", "content": text}, target]
                return rendered._replace(messages=messages, shots=shots)
        return rendered

    def _examples(
        self, engine: Engine, id: str, rendered: Rendered, pool: list[tuple[str, dict[str, Any]]]
    ) -> list[tuple[str, str]]:
        """Prompt and target of exemplars drawn by the record's id; none that asks what the record asks."""
        least, most = self.options.shots
        wanted = least + draw(self.seed, "few_shot.shots", id) % (most - least + 1)
        examples: list[tuple[str, str]] = []
        for place in permutation(len(pool), draw(self.seed, "few_shot.exemplars", id)):
            if len(examples) == wanted:
                break
            other, fields = pool[place]
            try:
                like = None if self.options.mixed else rendered.template
                messages = engine.render_like(id, other, fields, like).messages
            except RowSkipped:
                continue
            if len(messages) >= 2 and _asked(messages) != _asked(rendered.messages):
                examples.append((_asked(messages), messages[-1]["content"]))
        return examples


def _asked(messages: list[Message]) -> str:
    return messages[-2]["content"]


@dataclass(frozen=True)
class Layout:
    """How examples stand before the question; {n} counts them."""

    name: str
    before: str = ""
    between: str = "\n"
    after: str = "\n\n"
    first: str = ""

    def text(self, examples: list[tuple[str, str]], asked: str) -> str:
        """Examples, then what is asked, up to where the target would stand, without white space at the end. The target goes on
        the line of a prompt that ends with a colon."""
        parts = [self.first]
        for n, (prompt, target) in enumerate(examples, start=1):
            between = " " if self.between == "\n" and prompt.endswith(":") else self._numbered(self.between, n)
            parts += [self._numbered(self.before, n), prompt, between, target, self.after]
        n = len(examples) + 1
        parts += [self._numbered(self.before, n), asked, self._numbered(self.between, n).rstrip()]
        return "".join(parts)

    def _numbered(self, text: str, n: int) -> str:
        return text.replace("{n}", str(n))


LAYOUTS = (
    Layout("blank"),
    Layout("rule", after="\n\n-----\n\n"),
    Layout("stars", after="\n* * *\n"),
    Layout("arrow", between="\n=> "),
    Layout("in_out", "Input: ", "\nOutput: "),
    Layout("q_a", "Q: ", "\nA: "),
    Layout("asked", "Asked: ", "\nAnswered: ", "\n"),
    Layout("headings", "### Request\n", "\n### Reply\n"),
    Layout("tags", "<ask>", "</ask>\n<reply>", "</reply>\n"),
    Layout("numbered", "Example {n}\n", "\nAnswer {n}: "),
    Layout("cases", "({n}) ", "\n    "),
    Layout("solved", "Problem: ", "\nSolution: ", "\n\n", "Some solved ones first.\n\n"),
)
WITHOUT_CUES = tuple(layout for layout in LAYOUTS if not layout.before and layout.between == "\n")
_CUED = re.compile(
    r"\A\s*(?:\w+(?: \w+){0,2} ?[:=>]|[#<\[(]|\d+[.)])|[:=>\])](?:\s*[\"“'(\[-])?\s*\Z"
)  # begins or ends with a cue
