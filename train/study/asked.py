"""What a study is asked, as a recipe or a command writes it: pairs of arms, and the margin within which arms are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from curate.contract.errors import RequestError

UNTUNED = "untuned"  # what the results call the model before any tuning
Side = tuple[str, int | None]  # an arm, and its budget where one is named


def share_of(delta: float | str) -> float | None:
    """Of "10%" 0.1; None where delta is in the unit of the score. RequestError where it is neither."""
    if isinstance(delta, str):
        text = delta.strip()
        try:
            share = float(text.removesuffix("%")) / 100
        except ValueError:
            share = -1.0
        if text.endswith("%") and 0 < share < 1:
            return share
    elif 0 < delta < float("inf"):
        return None
    raise RequestError(f"delta is {delta!r}; it is a difference above 0, or a share of the gain, as in 10%")


def sides(question: Sequence[str], there: Mapping[str, Set[int]]) -> tuple[Side, Side]:
    """The two sides of a question, as in [fl@500, random@2000] or [diverse, homogeneous], with budgets on both or on neither.
    there: the budgets of each arm. RequestError where the question cannot be asked."""
    if isinstance(question, str) or len(question) != 2:
        raise RequestError(f"compare: {question} is no question; give two arms, as in [fl@500, random@2000]")
    left, right = (_side(str(side), there) for side in question)
    if (left[1] is None) != (right[1] is None):
        raise RequestError(f"compare: {list(question)} names a budget on one side; name one on both, or on none")
    if left[1] is None and not set(there[left[0]]) & set(there[right[0]]):
        raise RequestError(f"compare: {left[0]} and {right[0]} have no budget in common; say which, as in fl@500")
    return left, right


def _side(side: str, there: Mapping[str, Set[int]]) -> Side:
    arm, _, budget = side.partition("@")
    if arm not in there:
        raise RequestError(f"compare: there is no arm `{arm}`; there are {', '.join(there)}")
    if not budget:
        return arm, (0 if set(there[arm]) == {0} else None)
    if not budget.isdigit() or int(budget) not in there[arm]:
        raise RequestError(f"compare: {arm} has no budget {budget}; it has {', '.join(map(str, sorted(there[arm])))}")
    return arm, int(budget)
