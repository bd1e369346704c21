"""Templates ranked by a model: the values, the bootstrap beside its plain loops, what is claimed and what is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from scipy import stats

from curate.cli import measure
from curate.contract.errors import ContractError, DataError, RequestError
from curate.render.rows import without
from curate.template.sets import load_set
from train.encode import Encoder
from train.models import load_model, save_model
from train.scoring import by_template
from train.scoring.perplexity import evaluate, table

FORWARD = {  # template: the two choices
    "short": ["no", "yes"],
    "long": ["no bees", "bees"],
    "other": ["a hill", "the sea"],
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    schema = pa.Table.from_pylist(rows[:1]).schema
    if "choices" in schema.names:
        schema = schema.set(schema.get_field_index("choices"), pa.field("choices", pa.list_(pa.string())))
        schema = schema.set(schema.get_field_index("answer"), pa.field("answer", pa.int64()))
    pq.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def phrasings(records: int) -> list[dict[str, Any]]:
    """Records in three templates that ask, and one that is turned around."""
    return [
        {
            "id": f"r{i}:{template}", "record": f"r{i}", "template_set": "s", "template": template,
            "template_kind": "forward" if template in FORWARD else "inverted",
            "choices": FORWARD.get(template), "answer": i % 2 if template in FORWARD else None,
            "messages": [
                {"role": "user", "content": f"{template} {i}"},
                {"role": "assistant", "content": FORWARD[template][i % 2] if template in FORWARD else f"bee {i}"},
            ],
        }
        for i in range(records)
        for template in (*FORWARD, "turned")
    ]  # fmt: skip


@pytest.fixture
def model(llama, tokenizer, tmp_path) -> str:
    save_model(llama(), tokenizer, tmp_path / "model")
    return str(tmp_path / "model")


# --- what a template makes of a model --------------------------------------------------------------------------------


def test_templates_are_scored_apart_and_their_spread_is_over_those_that_ask(model, tmp_path):
    rows = phrasings(2)
    found = by_template.table(model, write(tmp_path / "rows.parquet", rows))
    assert {one["template"] for one in found[:3]} == set(FORWARD)
    assert [one["template"] for one in found[3:]] == [
        "turned",
        "(mean)",
        "(median)",
        "(interquartile range)",
        "(worst)",
    ]
    by_name = {one["template"]: one for one in found}
    for name in (*FORWARD, "turned"):
        part = write(tmp_path / f"{name}.parquet", [row for row in rows if row["template"] == name])
        assert by_name[name]["bits_per_byte"] == pytest.approx(table(model, part)[0]["bits_per_byte"])
        assert by_name[name]["rows"] == 2
    bits = np.array([by_name[name]["bits_per_byte"] for name in FORWARD])
    assert by_name["(mean)"]["bits_per_byte"] == pytest.approx(bits.mean())
    assert by_name["(worst)"]["bits_per_byte"] == pytest.approx(bits.max())
    assert by_name["(interquartile range)"]["bits_per_byte"] == pytest.approx((bits.max() - bits.min()) / 2)
    assert by_name["turned"]["accuracy"] is None


def test_accuracy_is_of_the_candidate_with_the_fewest_bits_and_differences_are_to_its_mean(model, tmp_path):
    rows = phrasings(24)
    found = {one["template"]: one for one in by_template.table(model, write(tmp_path / "rows.parquet", rows))}
    loaded, tokenizer = load_model(model)
    for name in FORWARD:
        right = []
        for row in (row for row in rows if row["template"] == name):
            told = [[row["messages"][0], {"role": "assistant", "content": choice}] for choice in row["choices"]]
            documents = Encoder(tokenizer).encode_all([("x", messages) for messages in told])[0]
            bits = [evaluate(loaded, [one]).bits[0] for one in documents]
            right.append(int(np.argmin(bits)) == row["answer"])
        assert found[name]["accuracy"] == np.mean(right)
    mean = np.mean([found[name]["accuracy"] for name in FORWARD])
    for name in FORWARD:
        assert (found[name]["ranked_by"], found[name]["common"]) == ("accuracy", 24)
        assert found[name]["difference"] == pytest.approx(found[name]["accuracy"] - mean)
        assert found[name]["rank_low"] <= found[name]["rank_high"]
    order = [one["accuracy"] for one in found.values() if one["template"] in FORWARD]
    assert order == sorted(order, reverse=True)
    assert found["turned"]["ranked_by"] is found["turned"]["difference"] is found["turned"]["worse"] is None


def test_one_template_without_choices_has_them_all_ranked_by_bits_per_byte(model, tmp_path):
    rows = [row | ({"choices": None, "answer": None} if row["template"] == "other" else {}) for row in phrasings(21)]
    found = by_template.table(model, write(tmp_path / "rows.parquet", rows))[:3]
    bits = [one["bits_per_byte"] for one in found]
    assert bits == sorted(bits)
    assert {one["ranked_by"] for one in found} == {"bits_per_byte"}
    for one in found:
        assert one["difference"] == pytest.approx(one["bits_per_byte"] - np.mean(bits))
        assert one["low"] < one["difference"] < one["high"]


def test_neither_the_order_of_the_rows_nor_a_second_run_changes_a_line(model, tmp_path):
    rows = phrasings(20)
    first = by_template.table(model, write(tmp_path / "rows.parquet", rows))
    assert first == by_template.table(model, tmp_path / "rows.parquet")
    turned = by_template.table(model, write(tmp_path / "turned.parquet", rows[::-1]))
    for one, other in zip(first, turned, strict=True):
        exact = {name: value for name, value in other.items() if not isinstance(value, float)}
        assert {name: one[name] for name in exact} == exact
        close = {name: value for name, value in other.items() if isinstance(value, float)}
        assert {name: one[name] for name in close} == pytest.approx(close, abs=1e-6)


# --- the bootstrap ---------------------------------------------------------------------------------------------------


def answers(n: int, chances: list[float], seed: int = 0, spread: float = 1.5) -> np.ndarray:
    """Right or wrong, float64 (templates, n): records differ in how hard they are. chances: in logits."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, spread, n)
    return (rng.random((len(chances), n)) < 1 / (1 + np.exp(-(np.array(chances)[:, None] + hard)))).astype(float)


def ids(n: int, of: str = "r") -> list[str]:
    return [f"{of}{i}" for i in range(n)]


def plainly(records: list[str], top: np.ndarray, size: np.ndarray, better: int) -> list[dict[str, Any]]:
    """What ``compare`` says, for sizes of 0 and 1, from its draws by loops over templates, pairs, resamples and records."""
    k, n = top.shape
    times = np.concatenate([by_template._times(records, 0, four) for four in range(by_template.RESAMPLES // 4)], axis=1)

    def value(a: int, b: int, weight: np.ndarray) -> float:
        """Template a on the records that it has in common with b."""
        both = [i for i in range(n) if size[a, i] and size[b, i]]
        return sum(weight[i] * top[a, i] for i in both) / sum(weight[i] for i in both)

    def t(quantile: float, count: int) -> float:
        return float(stats.t.ppf(stats.norm.cdf(quantile), count - 1))

    def at_level(values: list[float]) -> float:
        return sorted(values)[int(np.ceil(0.95 * (len(values) + 1))) - 1]

    once = np.ones(n)
    count = {(a, b): int(sum(size[a] * size[b])) for a in range(k) for b in range(k)}
    gap = {(a, b): value(a, b, once) - value(b, a, once) for a, b in count}
    error, moved = {}, {}
    for a, b in count:
        apart = [top[a, i] - top[b, i] for i in range(n) if size[a, i] and size[b, i]]
        error[a, b] = float(np.std(apart, ddof=1) / np.sqrt(len(apart)))
        moved[a, b] = [value(a, b, w) - value(b, a, w) - gap[a, b] for w in times.T]
    farthest = [
        max(abs(moved[pair][draw]) / error[pair] for pair in count if pair[0] < pair[1])
        for draw in range(by_template.RESAMPLES)
    ]
    told = []
    for a in range(k):
        fewest = min(count[a, b] for b in range(k) if b != a)
        to_mean = float(np.mean([gap[a, b] for b in range(k)]))
        swings = [float(np.mean([moved[a, b][draw] for b in range(k)])) for draw in range(by_template.RESAMPLES)]
        by_record = []
        for i in range(n):
            shares = [(top[a, i] - top[b, i] - gap[a, b]) / count[a, b] for b in range(k) if size[a, i] and size[b, i]]
            by_record.append(sum(shares) / k)
        own = float(np.sqrt(np.sum(np.square(by_record)) * fewest / (fewest - 1)))
        half = t(at_level([abs(one) / own for one in swings]), fewest) * own
        better_ones = sum(
            better * gap[b, a] > t(at_level(farthest), count[a, b]) * error[a, b] for b in range(k) if b != a
        )
        worse_ones = sum(
            better * gap[a, b] > t(at_level(farthest), count[a, b]) * error[a, b] for b in range(k) if b != a
        )
        told.append(
            {"difference": to_mean, "low": to_mean - half, "high": to_mean + half, "common": fewest}
            | {"rank_low": 1 + better_ones, "rank_high": k - worse_ones, "worse": better_ones > 0}
        )
    return told


def test_the_comparison_is_that_of_plain_loops_also_where_a_template_takes_some_records_only(monkeypatch):
    monkeypatch.setattr(by_template, "RESAMPLES", 200)
    top = answers(48, [2.0, 1.5, -0.8, 0.5])
    size = np.ones_like(top)
    size[3, ::3] = 0
    top *= size
    for better in (1, -1):
        got, expected = by_template.compare(ids(48), top, size, better=better), plainly(ids(48), top, size, better)
        assert [one["common"] for one in got] == [32] * 4
        assert any(one["worse"] for one in got) and not all(one["worse"] for one in got)
        for one, other in zip(got, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-9)


def test_a_template_of_the_easier_records_gains_nothing_by_it():
    top, size = np.zeros((2, 3, 60))
    top[:, :30] = answers(30, [3.0] * 3, seed=1)  # easy
    top[:2, 30:] = answers(30, [-3.0] * 2, seed=2)
    size[:2], size[2, :30] = 1, 1
    top[2, :6] = 0
    values = top.sum(axis=1) / size.sum(axis=1)
    told = by_template.compare(ids(60), top, size, better=1)
    assert values[2] > values[:2].max()
    assert told[2]["difference"] < min(told[0]["difference"], told[1]["difference"])
    assert [one["common"] for one in told] == [30, 30, 30]


def test_fewer_than_twenty_common_records_get_no_interval_and_hold_up_no_other():
    top = answers(60, [2.0, 2.0, -2.0])
    size = np.ones_like(top)
    size[0, 19:] = 0
    few, *enough = by_template.compare(ids(60), top * size, size, better=1)
    assert few["difference"] is not None and few["common"] == 19
    assert few["low"] is few["high"] is few["worse"] is few["rank_low"] is None
    assert [one["worse"] for one in enough] == [False, True]
    assert [(one["rank_low"], one["rank_high"]) for one in enough] == [(1, 1), (2, 2)]
    alone = by_template.compare(ids(60), top[1:], np.ones((2, 60)), better=1)
    # Products of other shapes add up in another order, so that the last digit may differ.
    assert [pytest.approx(one) for one in alone] == enough
    assert [one["common"] for one in enough] == [60, 60]
    apart = np.zeros((2, 60))
    apart[0, :30], apart[1, 30:] = 1, 1
    assert by_template.compare(ids(60), top[:2] * apart, apart, better=1)[0]["difference"] is None


def test_templates_that_no_record_tells_apart_are_not_said_to_be_equal():
    top = answers(30, [1.0])[[0, 0]]
    told = by_template.compare(ids(30), top, np.ones_like(top), better=1)
    assert [(one["difference"], one["low"], one["worse"]) for one in told] == [(0, None, False)] * 2
    sure = by_template.compare(ids(30), np.array([[1.0], [0.0]]) * np.ones(30), np.ones((2, 30)), better=1)
    assert [(one["rank_low"], one["rank_high"], one["worse"]) for one in sure] == [(1, 1, False), (2, 2, True)]


def test_a_records_resamples_are_its_own():
    drawn = by_template._times(ids(4000), 0, 7)
    np.testing.assert_array_equal(by_template._times(ids(4000)[::-1], 0, 7)[::-1], drawn)
    assert drawn.mean() == pytest.approx(1, abs=0.03)
    assert drawn.var() == pytest.approx(1, abs=0.06)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.06


def test_bits_per_byte_are_ratios_of_sums():
    rng = np.random.default_rng(5)
    size = rng.integers(2, 30, (3, 80)).astype(float)
    top = size * np.array([[1.0], [1.2], [2.0]]) * rng.gamma(4, 0.25, (3, 80))
    told = by_template.compare(ids(80), top, size, better=-1)
    values = top.sum(axis=1) / size.sum(axis=1)
    assert [one["difference"] for one in told] == pytest.approx(list(values - values.mean()))
    times = np.concatenate([by_template._times(ids(80), 0, four) for four in range(500)], axis=1)
    again = (top @ times) / (size @ times)
    swing = np.sort(np.abs((again - again.mean(axis=0)).T - (values - values.mean())), axis=0)[int(0.95 * 2000)]
    assert [one["high"] - one["difference"] for one in told] == pytest.approx(list(swing), rel=0.12)
    assert told[2]["worse"] and not told[0]["worse"]


@pytest.mark.slow
@pytest.mark.parametrize("n", [25, 80])
def test_intervals_hold_what_they_should_and_seldom_is_a_best_template_called_worse(n):
    chances = [1.2, 1.2, 1.2, 0.4, -0.8]
    hard = np.random.default_rng(0).normal(0, 1.5, 200_000)
    truth = np.array([float((1 / (1 + np.exp(-(chance + hard)))).mean()) for chance in chances])
    holds, wrong, found, times = [], 0, 0, 200
    for time in range(times):
        top = answers(n, chances, seed=100 + time)
        told = by_template.compare(ids(n, f"{time}/"), top, np.ones_like(top), better=1)
        holds += [one["low"] <= true <= one["high"] for one, true in zip(told, truth - truth.mean(), strict=True)]
        wrong += any(one["worse"] for one in told[:3])
        found += told[4]["worse"]
    assert 0.92 <= np.mean(holds) <= 0.975
    assert wrong <= 0.05 * times
    assert found >= (0.4 if n == 25 else 0.95) * times


# --- what is said, and what is refused -------------------------------------------------------------------------------


def lines(*templates: tuple[str, float, bool | None], name: str = "s") -> list[dict[str, Any]]:
    """A table's lines of one set: template, accuracy, whether it is shown to be worse."""
    return [
        {"template_set": name, "template": template, "kind": "forward", "rows": 30, "bits_per_byte": 1.0}
        | {
            "accuracy": accuracy,
            "ranked_by": "accuracy",
            "difference": accuracy - 0.5,
            "common": 30 if worse is not None else 9,
        }
        | {"low": accuracy - 0.6 if worse is not None else None, "high": accuracy - 0.4 if worse is not None else None}
        | {"rank_low": 1 if worse is not None else None, "rank_high": 2 if worse is not None else None, "worse": worse}
        for template, accuracy, worse in templates
    ]


def test_the_line_for_a_recipe_leaves_out_what_is_shown_to_be_worse_and_the_renderer_takes_it():
    name = "flan/sentiment/sst2"
    told = lines(("lean", 0.9, False), ("colon", 0.8, True), ("thumbs", 0.4, True), ("few", 0.9, None), name=name)
    told += lines(("no", 0.9, False), ("yes", 0.1, True), name="a set: of {ours}")
    said = by_template.sentences(told)
    assert said[0] == (
        f"{name}: by accuracy lean does best (0.900) and thumbs worst (0.400); 2 of 3 are shown to be worse than the best; "
        "fewer than 20 common records, so no interval: few"
    )
    assert f"{name}: [thumbs, colon]" in said[-1]
    leave_out = yaml.safe_load(said[-1])["render"]["leave_out"]
    assert leave_out == {name: ["thumbs", "colon"], "a set: of {ours}": ["yes"]}
    left = without(load_set(name), leave_out)
    assert len(left.templates) == len(load_set(name).templates) - 2


def test_nothing_to_leave_out_prints_no_line_for_a_recipe():
    said = by_template.sentences(lines(("a", 0.9, False), ("b", 0.8, False)))
    assert said == [
        "s: by accuracy a does best (0.900) and b worst (0.800); 0 of 2 are shown to be worse than the best"
    ]


def test_sets_with_too_little_to_rank_are_named_beside_those_with_enough(model, tmp_path, capsys):
    rows = phrasings(20)
    rows += [row | {"id": f"o{row['id']}", "template_set": "one"} for row in rows if row["template"] == "short"]
    rows += [row | {"id": f"f{row['id']}", "template_set": "few"} for row in rows[: 4 * 19]]
    rows += [
        row | {"id": f"t{row['id']}", "template_set": "turned"} for row in rows[:80] if row["template"] == "turned"
    ]
    measure.eval(model, write(tmp_path / "rows.parquet", rows), "template")
    printed = capsys.readouterr().out
    assert "few: its templates have 19 records in common, and fewer than 20 are too few for an interval" in printed
    assert "one: short is its only template that asks, so there is nothing to rank" in printed
    assert "turned: none of its templates asks, so there is nothing to rank" in printed
    assert "s: by accuracy" in printed
    assert printed.count("too few") == 3 + 1
    measure.eval(model, tmp_path / "rows.parquet", "template", as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told == by_template.table(model, tmp_path / "rows.parquet")
    with pytest.raises(RequestError, match="there are: task, template"):
        measure.eval(model, tmp_path / "rows.parquet", "style")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda rows: [{"id": row["id"], "messages": row["messages"]} for row in rows], ContractError,
         "has no column `template`; give the folder that the render stage wrote"),
        (lambda rows: [{k: v for k, v in row.items() if k != "record"} for row in rows], ContractError,
         "has no column `record`; render the rows with `templates: all` and give the folder"),
        (lambda rows: [row | {"record": row["id"]} for row in rows], ContractError,
         "each record is asked in one template only, so that templates cannot be compared; render the rows with `templates: all`"),
        (lambda rows: [row for row in rows if row["template"] in ("short", "turned")], DataError,
         "no set has two templates that ask for the answer, so there is nothing to rank"),
        (lambda rows: [*rows, rows[0] | {"id": "again"}], ContractError,
         "the template short asks the record r0 2 times; it may once"),
    ],
    ids=["not rendered", "without records", "one template a record", "one template a set", "twice"],
)  # fmt: skip
def test_rows_that_cannot_be_compared_are_refused_in_a_sentence(change, error, says, tmp_path):
    path = write(tmp_path / "rows.parquet", change(phrasings(3)))
    with pytest.raises(error) as refused:
        by_template.table("a model that is not looked for", path)
    assert says in str(refused.value) and str(path) in str(refused.value)
