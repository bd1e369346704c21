"""Small worlds that several tests share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROWS = 48
_THINGS = (
    "bread",
    "rivers",
    "clocks",
    "verbs",
    "planets",
    "violins",
    "bees",
    "maps",
    "glass",
    "tides",
    "salt",
    "trains",
)
_ASKS = ("Explain how {} work", "List three facts about {}", "Write a short poem on {}", "Compare {} with stones")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; one cache a test session, since what stands in it is addressed by content."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAMIS_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other on a busy machine cost more than small products."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def alpaca_rows(n: int = ROWS) -> list[dict[str, str]]:
    return [
        {
            "instruction": _ASKS[i % len(_ASKS)].format(_THINGS[i % len(_THINGS)])
            + ("" if i < ROWS else f" number {i}"),
            "input": "" if i % 3 else f"case {i}",
            "output": " ".join(f"{_THINGS[(i + j) % len(_THINGS)]} {i * j}" for j in range(3 + i % 7)),
        }
        for i in range(n)
    ]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


RECIPE = """\
name: small
seed: 3
load:
  - files: {path: a.jsonl, name: first, shape: alpaca, license: mit}
  - files: {path: b.jsonl, name: second, shape: alpaca, license: cc-by-4.0}
holdout: {rows: 6}
steps:
  - filter: {length: {min_words: 8}}
  - dedup: exact
  - embed: {hashing: {}}
  - cluster: {kmeans: {k: 4}}
  - select: {facility_location: {budget: 12}}
render: {templates: one}
release: {}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with two sources that overlap and a recipe of every kind of step; returns the recipe's path."""
    rows = alpaca_rows()
    write_jsonl(tmp_path / "a.jsonl", rows[:30])
    write_jsonl(tmp_path / "b.jsonl", rows[20:])
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, "utf-8")
    return path


def bytes_of(work: Path) -> dict[str, str]:
    """A hash of every file of a work folder that must be the same every time (not what a run took, not the lock)."""
    return {
        str(path.relative_to(work)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(work.rglob("*"))
        if path.is_file() and not path.name.startswith(".lock") and not path.name.endswith("run.json")
    }


# a small template set with one template, for the tests of its rules
MOOD = """\
dataset: mood
about: Is the line glad or sad?
license: mit
columns: {line: line, note: note, label: label}
record: {prompt: "{{ line }} {{ note }}", response: "{{ answer }}"}
choices: ["sad", "glad"]
answer: label
example: {line: we danced until the lamps went out, note: the dancers went home in the morning, label: 1}
templates:
  - {name: ask, kind: forward, style: plain, input: "{{ line }}\\n{{ options }}", target: "{{ answer }}"}
"""
