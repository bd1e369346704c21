"""The named clean-up filters that a template file may use: ``columns: {hypothesis: sentence2 | squeeze}``.

A filter takes a value of the row first, and returns a new value; it never changes the row. A value that makes no sense
to it raises RowSkipped, so that the row goes to ``removed`` with the reason. A null never comes here: a row whose column
is null leaves, unless the expression says ``| default(…, true)``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from curate.contract.draws import draw
from curate.contract.errors import RowSkipped


def squeeze(text: str) -> str:
    """Runs of white space become one space: ``" a\\n b " -> "a b"``."""
    return " ".join(text.split())


def before(text: str, separator: str) -> str:
    """What stands before the first separator, trimmed; all of it where there is none."""
    return text.partition(separator)[0].strip()


def after(text: str, separator: str) -> str:
    """What stands after the last separator, trimmed; all of it where there is none."""
    return text.rpartition(separator)[2].strip()


def without(text: str, start: str, end: str) -> str:
    """Drops every stretch from ``start`` to the next ``end``: ``"48/2=<<48/2=24>>24" | without("<<", ">>") -> "48/2=24"``."""
    return re.sub(f"{re.escape(start)}.*?{re.escape(end)}", "", text, flags=re.DOTALL)


def question(text: str) -> str:
    """Capital first, one question mark last: ``"who wrote emma" -> "Who wrote emma?"``."""
    return _capital(text.strip().rstrip("?").rstrip() + "?")


SENTENCE_ENDS = frozenset(".!?…\"'”’)")


def sentence(text: str) -> str:
    """Capital first, a mark at the end: ``"a film of ideas" -> "A film of ideas."``."""
    text = text.strip()
    return _capital(text if text[-1:] in SENTENCE_ENDS else f"{text}.")


_SPACED = re.compile(r" (?=[.,;:!?%)\]}]|n't\b|'(?:s|re|ve|ll|d|m)\b)|(?<=[(\[{$]) ")


def untokenized(text: str) -> str:
    """Takes back the spaces of Treebank tokens: ``"it 's good , is n't it ?" -> "it's good, isn't it?"``."""
    text = text.replace("-lrb-", "(").replace("-rrb-", ")").replace("`` ", '"').replace(" ''", '"')
    return _SPACED.sub("", text).strip()


def first_words(text: str, n: int) -> str:
    """The first n words: ``"a film of ideas" | first_words(2) -> "a film"``."""
    return " ".join(text.split(None, n)[:n])


def last_words(text: str, n: int) -> str:
    """The last n words: ``"a film of ideas" | last_words(2) -> "of ideas"``."""
    return " ".join(text.rsplit(None, n)[-n:])


def skip_words(text: str, n: int) -> str:
    """All but the first n words: ``"a film of ideas" | skip_words(2) -> "of ideas"``."""
    return " ".join(text.split(None, n)[n:])


def blank_if(text: str, *fillers: str) -> str:
    """Empty where the whole text says no more than one of the fillers; case and marks are ignored."""
    letters = "".join(filter(str.isalnum, text.casefold()))
    return "" if letters in {"".join(filter(str.isalnum, filler.casefold())) for filler in fillers} else text


def label_index(label: Any, *names: str) -> int | None:
    """A label as its index: a name, or a number in digits, as CSV files have it. -1 and "", unlabelled, give None.

    ``"not_entailment" | label_index("entailment", "not_entailment") -> 1``
    """
    if label in ("", -1, "-1"):
        return None
    if label in names:
        return names.index(label)
    try:
        number = int(label)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < len(names):
        raise RowSkipped(f"the label {str(label)[:40]!r} is none of: {', '.join(names)}")
    return number


_SLOT = re.compile(r"\s*([^\[\],]+?)\[([^\]]*)\]\s*(?:,|$)")


def slots(text: str) -> list[tuple[str, str]]:
    """A flat meaning representation as pairs: ``"name[The Mill], area[riverside]" -> [("name", "The Mill"), …]``."""
    pairs, end = [], 0
    while match := _SLOT.match(text, end):
        pairs.append((match[1], match[2]))
        end = match.end()
    if not pairs or text[end:].strip():
        raise RowSkipped(f"the meaning representation {text[:60]!r} is not a list of name[value]")
    return pairs


_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|_")


def words(name: str) -> str:
    """A column's or a slot's name as words: ``"familyFriendly" -> "family friendly"``."""
    return _CAMEL.sub(" ", name).lower()


_SPEAKERS = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "system": "system",
}
_TURN_KEYS = {"role", "content", "from", "value"}


def turns(conversation: Any, system: str | None = None) -> list[dict[str, str]]:
    """A conversation as messages of role and content, from {role, content} or ShareGPT's {from, value}.

    system: a system message that the row holds beside the conversation; it goes first.
    What each message holds besides is not lost: ``leftover`` reads it. Refused with a reason: a role other than
    system, user and assistant; content that is not text (images, tool calls); no user turn with an answer after it.
    An empty system message is left out.
    """
    if not isinstance(conversation, list) or not conversation:
        raise RowSkipped("the conversation is not a list of messages")
    if system:
        conversation = [{"role": "system", "content": system}, *conversation]
    messages = [_message(message, number) for number, message in enumerate(conversation, start=1)]
    kept = [message for message in messages if message["role"] != "system" or message["content"]]
    roles = [message["role"] for message in kept]
    if "user" not in roles or "assistant" not in roles[roles.index("user") :]:
        raise RowSkipped("the conversation has no user message with an assistant's after it")
    return kept


def _message(message: Any, number: int) -> dict[str, str]:
    if not isinstance(message, dict):
        raise RowSkipped(f"message {number} is not a mapping of role and content")
    name = message.get("role", message.get("from"))
    role = _SPEAKERS.get(name) if isinstance(name, str) else None
    if role is None:
        raise RowSkipped(f"message {number} has the role {name!r}; only system, user and assistant can be kept")
    content = message.get("content", message.get("value"))
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        content = "\n".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise RowSkipped(f"message {number} has no plain text (an image or a tool call?)")
    if role != "system" and not content.strip():
        raise RowSkipped(f"message {number}, the {role}'s, is empty")
    return {"role": role, "content": content}


def leftover(conversation: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each message holds besides its role and its text; an empty list where none holds more."""
    rest = [{key: value for key, value in message.items() if key not in _TURN_KEYS} for message in conversation]
    rest = [{key: value for key, value in more.items() if value not in (None, [], {})} for more in rest]
    return rest if any(rest) else []


def said_by(messages: Iterable[dict[str, str]], role: str) -> str:
    """All that one side said, its turns joined by blank lines."""
    return "\n\n".join(message["content"] for message in messages if message["role"] == role)


def zipped(items: Iterable[Any], *others: Iterable[Any]) -> list[tuple[Any, ...]]:
    """``zip``: pairs, as many as the shortest has: ``["a", "b"] | zip([1, 2]) -> [("a", 1), ("b", 2)]``."""
    return list(zip(items, *others, strict=False))


def counting(start: int, stop: int | None = None, step: int = 1) -> range:
    """``range``: numbers up to the end, which is not among them: ``3 | range -> 0, 1, 2``; ``1 | range(3) -> 1, 2``."""
    numbers = range(start) if stop is None else range(start, stop, step)
    if len(numbers) > _MOST_NUMBERS:
        raise RowSkipped(f"`range` gives {len(numbers):,} numbers, more than {_MOST_NUMBERS:,}")
    return numbers


_MOST_NUMBERS = 100_000


def most_frequent(items: Iterable[Any]) -> list[Any]:
    """The items that stand there most often, in the order of first sight."""
    counts = Counter(items)
    most = max(counts.values(), default=0)
    return [item for item, count in counts.items() if count == most]


def pick(items: Any, *by: Any) -> Any:
    """One of the items, drawn by the values in the brackets, so that a row has the same one on every run:
    ``answers | pick(question)``. Another number among them makes another draw: ``answers | pick(2, question)``."""
    if not len(items):
        raise RowSkipped("there is nothing to pick from")
    return items[draw(0, "template.pick", "\0".join(map(str, by))) % len(items)]


class _List(list):
    """A list that a template has made, and may add to."""


class _Mapping(dict):
    """A mapping that a template has made, and may add to."""


def growing(value: Any) -> Any:
    """A copy that ``put`` and ``take`` may change, with all that lies in it; the row's own values are never changed.

    ``{% set seen = [] | growing %}{% for name in names %}{% set _ = seen | put(name) %}{% endfor %}``
    """
    if isinstance(value, dict):
        return _Mapping({key: growing(inner) for key, inner in value.items()})
    return _List(map(growing, value)) if isinstance(value, list) else value


def put(growing: Any, value: Any) -> None:
    """Adds an item to a list that grows, or the pairs of a mapping to a mapping that grows. Gives nothing."""
    if isinstance(growing, _List):
        growing.append(value)
    elif isinstance(growing, _Mapping) and isinstance(value, dict):
        growing.update(value)
    else:
        raise RowSkipped("`put` adds to what is made with `growing`")


def take(growing: Any, at: Any = -1) -> Any:
    """Takes an item out of a list that grows, the last one if no place is given, or a key's value out of a mapping."""
    if not isinstance(growing, _List | _Mapping):
        raise RowSkipped("`take` takes from what is made with `growing`")
    try:
        return growing.pop(at)
    except (IndexError, KeyError, TypeError) as error:
        raise RowSkipped(f"`take` finds nothing at {at!r:.40}") from error


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_OF_TEXTS = (
    squeeze, before, after, without, question, sentence, untokenized, first_words, last_words, skip_words, blank_if,
)  # fmt: skip
TEXT_FILTERS = tuple(function.__name__ for function in _OF_TEXTS)
FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *_OF_TEXTS,
        label_index,
        slots,
        words,
        turns,
        leftover,
        said_by,
        most_frequent,
        pick,
        growing,
        put,
        take,
    )
} | {"zip": zipped, "range": counting}
