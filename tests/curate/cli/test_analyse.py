"""tamis analyse and calibrate, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from curate.cli import app
from curate.contract.errors import RequestError

MAP = "arm=method,budget=n,seed=seed,item=dataset,value=score,model=@folder"


def record(folder: Path, seeds: int, gain: float) -> Path:
    rng = np.random.default_rng(0)
    lines = ["method,n,seed,dataset,score"]
    for method in ("Random", "ours"):
        for n in (64, 128, 256):
            for seed in range(seeds):
                for dataset in ("a", "b"):
                    score = 50 + gain * (method == "ours") + 2 * np.log2(n / 64) + rng.normal(0, 0.1)
                    lines.append(f"{method},{n},{seed},{dataset},{score}")
    folder.mkdir(parents=True)
    (folder / "r.csv").write_text("\n".join(lines))
    (folder / "zero.csv").write_text("dataset,score\na,49\nb,49\n")
    return folder / "r.csv"


def said(*command: str) -> str:
    done = CliRunner().invoke(app, ["analyse", *command])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return " ".join(done.output.split())


def test_a_record_of_few_seeds_and_several_models_is_analysed_in_one_go(tmp_path: Path) -> None:
    files = [str(record(tmp_path / name, 3, gain)) for name, gain in (("x", 1.0), ("y", 1.0))]
    base = [part for name in "xy" for part in ("--baseline", str(tmp_path / name / "zero.csv"))]
    text = said(
        *files, "--map", MAP, "--reference", "Random", "--higher-is-better", *base, "--out", str(tmp_path / "page")
    )
    assert "There are 3 seeds, fewer than 5, so the spread from seed to seed is pooled" in text
    assert "Below the untuned model: x 0 % (0 % shown), y 0 % (0 % shown)" in text
    assert "the same on another model in 100 % of" in text
    page = (tmp_path / "page" / "analysis.html").read_text()
    assert "Will it hold on another model?" in page and "+1" in page
    facts = json.loads(
        CliRunner()
        .invoke(app, ["analyse", *files, "--map", MAP, "--reference", "Random", "--higher-is-better", "--json"])
        .output
    )
    assert {g["verdict"] for block in facts["blocks"] for g in block["gaps"]} == {"better"}


def test_values_of_five_seeds_and_more_have_the_studys_own_analysis(tmp_path: Path) -> None:
    file = str(record(tmp_path / "x", 6, 2.0))
    text = said(file, "--map", MAP.replace(",model=@folder", ""), "--reference", "Random", "--higher-is-better")
    assert "example chosen by ours was worth" in text or "examples chosen by ours were better" in text


def test_what_cannot_be_analysed_is_one_sentence(tmp_path: Path) -> None:
    file = str(record(tmp_path / "x", 3, 1.0))
    with pytest.raises(RequestError, match="name the column of the scores, as in `--map value=THEIRS`"):
        said(file, "--map", "arm=method")
    with pytest.raises(RequestError, match="the reference `random` is not among the arms; there are Random, ours"):
        said(file, "--map", MAP)
    with pytest.raises(RequestError, match="no such file; a study writes its results"):
        said(str(tmp_path / "none.parquet"))


def test_what_names_of_folders_tell_is_analysed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = []
    for arm, gain in (("Random", 0.0), ("k-center", 0.3)):
        for seed in range(3):
            folder = tmp_path / f"me__{arm}-64-s{seed}"
            folder.mkdir()
            rows = [{"doc_id": i, "filtered_resps": [], "acc": 0.5 + gain + rng.normal(0, 0.05)} for i in range(40)]
            files.append(folder / "samples_arc_2026-11-27T10-00-00.000.jsonl")
            files[-1].write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "base").mkdir()
    base = tmp_path / "base" / files[0].name
    base.write_text(files[0].read_text())
    how = ["--map", "@folder=me__{arm}-{budget}-s{seed},value=acc", "--reference", "Random", "--higher-is-better"]
    text = said(*map(str, files), *how, "--baseline", str(base))
    assert "k-center +0." in text and "Below the untuned model: the model" in text
    one = [str(file) for file in files if "-s0" in str(file)]
    assert "k-center" in said(*one, *how) and "items" in said(*one, *how)
    with pytest.raises(RequestError, match="--compare, --pools and --new-tasks are for one model with 5 runs or more"):
        said(*map(str, files), *how, "--pools")
    with pytest.raises(RequestError, match=r"have no column for arm; say which it is, as in `--map arm=THEIRS`"):
        said(*[str(record(tmp_path / "y", 6, 1.0))], "--map", "value=score")


def study_of_models(path: Path, arms: tuple[str, ...], draws: int) -> str:
    rng = np.random.default_rng(0)
    rows = [
        {
            "arm": arm if model == "small" else f"{arm}/{model}",
            "budget": budget,
            "draw": draw,
            "seed": 0,
            "item": f"i{item}",
            "task": "t",
            "bits": 100 + rng.normal() - budget / 8 + 3 * (arm != "random"),
            "bytes": 10.0,
            "factor.arm": arm,
            "factor.model": model,
        }
        for model in ("small", "large")
        for arm in arms
        for budget in (16, 32)
        for draw in range(draws)
        for item in range(20)
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_a_study_over_models_says_whether_verdicts_hold_where_they_can_be_compared(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    assert "is the same on another model in 100 % of 4 decisions" in said(study_of_models(path, ("random", "worse"), 5))
    assert "Will it hold" not in said(study_of_models(path, ("random", "worse"), 1))
    assert "Will it hold" not in said(study_of_models(path, ("random",), 5))


def test_the_calibration_of_a_few_designs_as_a_table_and_as_json() -> None:
    done = CliRunner().invoke(app, ["calibrate", "--simulations", "40", "--only", "flat", "--workers", "1"])
    assert done.exit_code == 0 and "1 of 1 claims hold" in done.output
    lines = json.loads(
        CliRunner()
        .invoke(app, ["calibrate", "--simulations", "40", "--only", "flat", "--workers", "1", "--json"])
        .output
    )
    assert lines[0]["design"] == "a flat reference"
    for options in (["--level", "1"], ["--only", "nothing"], ["--simulations", "0"]):
        refused = CliRunner().invoke(app, ["calibrate", *options])
        assert isinstance(refused.exception, RequestError)
