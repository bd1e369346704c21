"""Few-shot prompts: examples before the question, from rows that are never asked themselves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from curate.contract.errors import RecipeError, RequestError
from curate.render.few_shot import LAYOUTS, REASON, WITHOUT_CUES, few_shot, set_aside
from curate.render.rows import render_rows
from curate.rows.table import MESSAGES_TYPE
from curate.run import recipe as recipes
from curate.run import runner

SST2 = "flan/sentiment/sst2"
RTE = "flan/natural_language_inference/rte"


def table(n: int, name: str = SST2) -> pl.DataFrame:
    fields = [{"sentence": f"film number {i} drags on", "label": i % 2} for i in range(n)]
    return pl.DataFrame(
        {
            "id": [f"{i:032x}" for i in range(n)],
            "template_set": [name] * n,
            "fields": [orjson.dumps(row).decode() for row in fields],
        }
    ).with_columns(pl.lit(None, MESSAGES_TYPE).alias("messages"))


def render(rows: pl.DataFrame, **options: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    return render_rows(rows, few_shot=options)


def test_the_share_and_the_number_of_shots_are_as_asked():
    kept, _ = render(table(2_000), share=0.5, shots=[1, 4], exemplars=40)
    shots = Counter(kept["shots"].to_list())
    assert set(shots) == {0, 1, 2, 3, 4}
    assert 0.45 < 1 - shots[0] / kept.height < 0.55
    assert all(0.1 < shots[k] / kept.height < 0.15 for k in (1, 2, 3, 4))


def test_exemplars_are_set_aside_and_stand_in_no_row():
    rows = table(300)
    kept, removed = render(rows, share=1.0, shots=2, exemplars=20)
    aside = set(set_aside(rows, few_shot(shots=2, exemplars=20), 0))
    assert len(aside) == 20
    assert set(removed["id"]) == aside
    assert removed["reason"].unique().to_list() == [REASON]
    assert kept.height == 280
    numbers = {str(int(id, 16)) for id in aside}
    for row in kept.iter_rows(named=True):
        prompt = row["messages"][0]["content"]
        own = str(int(row["record"], 16))
        shown = [word.rstrip(".,;:'\"”’)<>*") for text in prompt.split("number ")[1:] for word in text.split()[:1]]
        assert set(shown) - {own} <= numbers
        assert len(set(shown) - {own}) <= 2


def test_the_question_stands_last_and_the_target_is_as_without_examples():
    rows = table(400)
    aside, _ = render(rows, share=1.0, shots=3, exemplars=30)
    plain, _ = render_rows(rows.filter(pl.col("id").is_in(aside["id"].implode())))
    assert aside["id"].to_list() == plain["id"].to_list()
    ends = {layout.between.replace("{n}", "4").rstrip() for layout in LAYOUTS}
    seen = set()
    for few, zero in zip(aside.iter_rows(named=True), plain.iter_rows(named=True), strict=True):
        assert few["shots"] == 3
        assert few["template"] == zero["template"]
        assert few["messages"][-1] == zero["messages"][-1]
        assert (few["choices"], few["answer"]) == (zero["choices"], zero["answer"])
        question = zero["messages"][0]["content"]
        before, asked, after = few["messages"][0]["content"].rpartition(question)
        assert asked
        assert before
        assert after in ends
        seen.add(after)
        assert few["messages"][0]["content"] == few["messages"][0]["content"].rstrip()
    assert seen == ends


def test_examples_are_put_in_the_record_s_own_template_and_options_style():
    kept, _ = render(table(600), share=1.0, shots=2, exemplars=30)
    for row in kept.filter(pl.col("options_style") == "upper_dot_text").iter_rows(named=True):
        assert row["messages"][0]["content"].count("The options are\nA. ") == 3
    assert kept.filter(pl.col("options_style") == "upper_dot_text").height > 2


def test_mixed_examples_are_put_in_templates_of_their_own():
    mixed, _ = render(table(200), share=1.0, shots=4, exemplars=30, template="mixed")
    same, _ = render(table(200), share=1.0, shots=4, exemplars=30)
    assert mixed["messages"].to_list() != same["messages"].to_list()
    assert mixed["template"].to_list() == same["template"].to_list()


def test_examples_are_left_out_until_the_rest_fits():
    kept, _ = render(table(400), share=1.0, shots=4, exemplars=30, max_tokens=60)
    words = [sum(len(m["content"].split()) for m in row) for row in kept["messages"].to_list()]
    few = [n for n, shots in zip(words, kept["shots"], strict=True) if shots]
    assert few
    assert max(few) <= 60
    assert min(kept["shots"]) == 0


def test_a_set_with_few_rows_gives_a_fifth_of_them_and_one_with_fewer_gives_none():
    assert render(table(10), share=1.0, shots=1)[1].height == 2
    kept, removed = render(table(4), share=1.0, shots=1)
    assert (kept.height, removed.height) == (4, 0)
    assert kept["shots"].to_list() == [0] * 4


def test_the_order_and_the_cut_of_the_table_change_nothing():
    rows = table(200)
    exemplars = rows.filter(pl.col("id").is_in(set_aside(rows, few_shot(), 0).implode()))
    whole, _ = render_rows(rows, few_shot={}, exemplars=exemplars)
    parts = [render_rows(part, few_shot={}, exemplars=exemplars)[0] for part in (rows[120:], rows[:120].reverse())]
    assert pl.concat(parts).sort("id").equals(whole.sort("id"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0}, "shots is 0; give a number from 1 on"),
        ({"shots": [4, 2]}, r"shots is \[4, 2\]"),
        ({"share": 0.0}, "share is 0.0; it must lie above 0"),
        ({"share": 1.5}, "share is 1.5"),
        ({"exemplars": 2, "shots": 3}, "2 exemplars for up to 3 shots"),
        ({"max_tokens": 0}, "in 0 tokens"),
    ],
)
def test_options_that_cannot_be_met_are_said(options, message):
    with pytest.raises(RequestError, match=message):
        few_shot(**options)


def test_the_recipe_check_says_it_with_the_line(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: a\nload:\n  - files: {path: a.jsonl}\nrender:\n  few_shot: {shots: [3, 1]}\n", "utf-8")
    with pytest.raises(RecipeError, match=r"recipe.yaml:5: few_shot: shots is \[3, 1\]"):
        recipes.read(path, [])
    path.write_text("name: a\nload:\n  - files: {path: a.jsonl}\nrender:\n  few_shot: {shot: 3}\n", "utf-8")
    with pytest.raises(RecipeError, match=r"few_shot has no option 'shot'\. Did you mean 'shots'"):
        recipes.read(path, [])
    path.write_text("name: a\nload:\n  - files: {path: a.jsonl}\nrender: {few_shot: {share: 0.3}}\n", "utf-8")
    step = recipes.read(path, []).step("render")
    assert step is not None
    assert step.options["few_shot"]["share"] == 0.3


def test_a_run_says_how_many_records_have_fewer_examples_than_asked(tmp_path: Path):
    from conftest import write_jsonl

    from curate.run.runner import run

    write_jsonl(tmp_path / "a.jsonl", [{"sentence": f"film number {i} drags on", "label": i % 2} for i in range(100)])
    source = "files: {path: a.jsonl, template: flan/sentiment/sst2, license: mit}"
    few = "few_shot: {shots: [3, 4], share: 1.0, max_tokens: 60, exemplars: 10}"
    (tmp_path / "recipe.yaml").write_text(f"name: few\nload:\n  - {source}\nrender: {{{few}}}\n", "utf-8")
    run(recipes.read(tmp_path / "recipe.yaml", []), tmp_path / "work")
    folder = next((tmp_path / "work").glob("*-render"))
    shots = pl.read_parquet(folder / "kept" / "*.parquet")["shots"]
    facts = orjson.loads((folder / "manifest.json").read_bytes())
    counts = facts.get("facts", facts)["few_shot"]
    assert counts == {"drawn": 90, "with_examples": (shots > 0).sum(), "with_the_least_asked": (shots >= 3).sum()}
    assert counts["with_the_least_asked"] < counts["drawn"]


@pytest.mark.parametrize(
    "cued",
    [
        "{{ line }}\nAnswer:",
        "Review: {{ line }} Good or bad?",
        "<text>{{ line }}</text>\n<label>",
        "{{ line }} ->",
        "### {{ line }}",
    ],
)
def test_a_prompt_with_cues_of_its_own_gets_no_others(tmp_path, cued):
    path = tmp_path / "made.yaml"
    path.write_text(
        "dataset: made\nabout: Made up.\ncolumns: {line: sentence, label: label}\nanswer: label\nchoices: ['no', 'yes']\n"
        "record: {prompt: '{{ line }}', response: '{{ answer }}'}\nexample: {sentence: a, label: 0}\ntemplates:\n"
        f"  - {{name: t, kind: forward, style: plain, target: '{{{{ answer }}}}', input: {orjson.dumps(cued).decode()}}}\n"
    )
    kept, _ = render(table(300, str(path)), share=1, shots=2, exemplars=20)
    own = cued.split("{{")[0].strip(), cued.rsplit("}}", 1)[1].strip()
    for messages in kept["messages"].to_list():
        text = messages[0]["content"].replace(own[0] or "\0", "").replace(own[1] or "\0", "")
        cues = (cue.replace("{n}", "1").strip() for layout in LAYOUTS for cue in (layout.before, layout.between))
        assert not [cue for cue in cues if cue and cue in text], text
    if cued.endswith("Answer:"):
        assert all(
            "Answer: no" in text or "Answer: yes" in text for text in (m[0]["content"] for m in kept["messages"])
        )


def test_a_prompt_without_cues_is_put_in_every_layout():
    plain = [layout.text([("What is it", "this")], "And now") for layout in LAYOUTS]
    assert len(set(plain)) == len(LAYOUTS)
    assert {"blank", "rule", "stars"} == {layout.name for layout in WITHOUT_CUES}


def test_a_mixture_comes_out_as_asked_though_examples_are_set_aside(tmp_path: Path):
    lines = [{"sentence": f"film number {i} goes on and on", "label": i % 2} for i in range(400)]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))
    (tmp_path / "recipe.yaml").write_text(
        f"name: capped\nload:\n  - files: {{path: a.jsonl, name: a, template: {SST2}, license: mit}}\n"
        "mix: {proportional: {cap: 200}}\nrender: {few_shot: {share: 0.5, exemplars: 30}}\n"
    )
    runner.run(recipes.read(tmp_path / "recipe.yaml", []), tmp_path / "work")
    read = {
        (stage, side): pl.concat(map(pl.read_parquet, sorted((tmp_path / "work").glob(f"*{stage}/{side}/*.parquet"))))
        for stage in ("mix", "render")
        for side in ("kept", "removed")
    }
    assert read["mix", "kept"].height == read["render", "kept"].height == 200
    assert read["mix", "removed"]["reason"].to_list().count(REASON) == 30
    assert (read["render", "kept"]["shots"] > 0).sum() > 70
    aside = read["mix", "removed"].filter(pl.col("reason") == REASON)
    sentences = [orjson.loads(fields)["sentence"] for fields in aside["fields"]]
    asked = read["render", "kept"].filter(pl.col("shots") > 0)["messages"].to_list()
    assert all(any(sentence in messages[0]["content"] for sentence in sentences) for messages in asked)
