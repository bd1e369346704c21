"""A comparison of selectors as a table: a selector a line, best coverage first."""

from __future__ import annotations

from typing import Any

from curate.diversity.family import verdict

VENDI, WORDS = "vendi_1", "response_words"  # measures of the diversity report that the table tells
HEADER = ("selector", "coverage", "radius", "Vendi", "more / less", "words", "seconds", "MB")


def value_of(selector: dict[str, Any], measure: str) -> float | None:
    """A measure of the diversity report; None where it does not apply."""
    return next((line["value"] for line in selector["diversity"]["measures"] if line["name"] == measure), None)


def by_value(comparison: dict[str, Any]) -> list[str]:
    """The selectors' names, best coverage first."""
    return sorted(comparison["selectors"], key=lambda name: (-comparison["selectors"][name]["facility_location"], name))


def row(name: str, selector: dict[str, Any]) -> tuple[str, ...]:
    """A selector's line in the table, on the page and in the terminal."""
    said = [verdict(line) for line in selector["diversity"]["measures"]]
    return (
        name,
        f"{selector['facility_location']:.4f}",
        f"{selector['radius']:.3f}",
        number(value_of(selector, VENDI)),
        f"{said.count('more diverse')} / {said.count('less diverse')}",
        number(value_of(selector, WORDS)),
        f"{selector['seconds']:.2f}",
        f"{selector['mb']:,}",
    )


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def lines(comparison: dict[str, Any]) -> list[str]:
    """The comparison as a terminal shows it."""
    table = [[*HEADER, "seeds", "k"]]
    for name in by_value(comparison):
        one = comparison["selectors"][name]
        overlaps = ("" if one[of] is None else f"{one[of]:.2f}" for of in ("seed_overlap", "k_overlap"))
        table.append([*row(name, one), *overlaps])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    said = [f"{comparison['recipe']}: {comparison['budget']:,} of {comparison['rows']:,} rows"]
    for name, *numbers in table:
        said.append("  ".join([name.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])]))
    for what in ("failed", "left_out"):
        said += [f"{name}: {what.replace('_', ' ')}: {why}" for name, why in comparison[what].items()]
    return said
