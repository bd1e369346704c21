"""`make bench-select`: the command passes on what it is asked, and says no in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import selectors
from curate.contract.errors import MethodError
from curate.report.selectors_table import HEADER

COMPARISON: dict[str, Any] = {
    "recipe": "tiny",
    "stage": "03-select",
    "rows": 60,
    "dimensions": 6,
    "budget": 32,
    "seeds": 3,
    "subsets": 2,
    "score": "score_a",
    "selectors": {},
    "random": {"facility_location": [], "radius": [], "vendi": []},
    "order": [],
    "overlap": [],
    "failed": {"rds": "the budget is too large"},
    "left_out": {},
}


def test_the_command_writes_a_page_and_all_numbers(tmp_path: Path, monkeypatch, capsys) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(selectors, "compare", lambda work, **options: asked.update(options) or COMPARISON)
    assert selectors.main([str(tmp_path), "--seeds", "3", "--only", "random, longest", "--budget", "32"]) == 0
    assert asked == {"budget": 32, "seeds": 3, "only": ["random", "longest"]}
    assert json.loads((tmp_path / "selectors.json").read_text()) == COMPARISON
    again = f"python -m benchmarks.selectors {tmp_path} --budget 32 --seeds 3 --only random,longest"
    assert again in (tmp_path / "selectors.html").read_text()
    said = capsys.readouterr().out
    assert HEADER[0] in said and "rds: failed: the budget is too large" in said and f"{tmp_path}/selectors.html" in said


def test_what_cannot_be_is_a_sentence(tmp_path: Path, monkeypatch, capsys) -> None:
    def refuse(work: Path, **options: Any) -> dict[str, Any]:
        raise MethodError("there is no selector 'randon'")

    monkeypatch.setattr(selectors, "compare", refuse)
    assert selectors.main([str(tmp_path)]) == 2
    assert "no selector 'randon'" in capsys.readouterr().err and not list(tmp_path.iterdir())
