"""Super-NaturalInstructions: its task files as rows, and Tk-Instruct's encodings of them, byte for byte.

    task = read(Path("task1344_glue_entailment_classification.json"))
    list(rows(task))                                                            one row an instance, for pools/superni
    encode(task, task.instances[0]["input"], ENCODINGS["def_pos"], count=…)     "Definition: … Output: "

The files are those of allenai/natural-instructions (tasks/*.json), older ones too: a definition or an output that is a text
and not a list, categories that are a text, instances without an id. The encodings are those of yizhongw/Tk-Instruct,
src/ni_collator.py; its quirks are kept, as the spaces before "Positive Example" and a budget that counts the examples
joined by one more space than the text has.
"""

from __future__ import annotations

import gzip
import json
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from curate.contract.draws import draw
from curate.contract.errors import RowSkipped, SourceError

Example = dict[str, str]


class Encoding(NamedTuple):
    """What stands before the question: the definition, so many examples of each kind, their explanations."""

    definition: bool = True
    positive: int = 0
    negative: int = 0
    explanation: bool = False
    task_name: bool = False


ENCODINGS: dict[str, Encoding] = {
    "def": Encoding(),
    "pos": Encoding(definition=False, positive=2),
    "def_pos": Encoding(positive=2),
    "def_pos_neg": Encoding(positive=2, negative=2),
    "def_pos_expl": Encoding(positive=2, explanation=True),
}


@dataclass(frozen=True)
class Task:
    """A task file. name: its stem. definition: the first, where there are several. instances: id, input, output (a list)."""

    name: str
    definition: str
    categories: tuple[str, ...]
    positive: tuple[Example, ...]
    negative: tuple[Example, ...]
    instances: tuple[dict[str, Any], ...]


def read(path: Path) -> Task:
    """Reads a task, also gzipped. Raises SourceError: the file cannot be read, is no JSON, or lacks a key."""
    path = Path(path)
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceError(f"{path}:{error.lineno}: this is not valid JSON: {error.msg}") from error
    except (OSError, EOFError, UnicodeDecodeError, RecursionError) as error:
        raise SourceError(f"{path}: the file cannot be read as UTF-8 JSON: {error}") from error
    if not isinstance(data, dict):
        raise SourceError(f"{path}:1: a task of SuperNI is a mapping, not {type(data).__name__}")
    definition = _texts(data.get("Definition"))
    if not definition:
        raise SourceError(f"{path}:1: the task has no `Definition`")
    instances = data.get("Instances")
    if not isinstance(instances, list):
        raise SourceError(f"{path}:1: the task has no list `Instances`")
    name = path.name.removesuffix(".gz").removesuffix(".json")
    return Task(
        name=name,
        definition=definition[0],
        categories=tuple(_texts(data.get("Categories"))),
        positive=_examples(path, data, "Positive Examples"),
        negative=_examples(path, data, "Negative Examples"),
        instances=tuple(_instance(path, name, i, instance) for i, instance in enumerate(instances)),
    )


def rows(task: Task) -> Iterator[dict[str, Any]]:
    """A row an instance: id, task, categories, definition, input, output (a list of texts), positive_examples and
    negative_examples (lists of mappings with input, output and, as a rule, explanation)."""
    for instance in task.instances:
        yield {
            "id": instance["id"],
            "task": task.name,
            "categories": list(task.categories),
            "definition": task.definition,
            "input": instance["input"],
            "output": instance["output"],
            "positive_examples": [dict(example) for example in task.positive],
            "negative_examples": [dict(example) for example in task.negative],
        }


def encode(
    task: Task,
    question: str,
    encoding: Encoding = ENCODINGS["def_pos"],
    *,
    count: Callable[[str], int],
    limit: int = 1024,
    cut: Callable[[str, int], str] | None = None,
) -> str:
    """The source text for one question. count: a text's length in tokens, with the special tokens of the tokenizer.

    Examples are taken while definition, examples and question fit into ``limit``. A text that is longer even so is cut by
    ``cut(text, limit)``, which loses the question's end, as Tk-Instruct does; without ``cut`` it raises RowSkipped.
    """
    ask = _stopped(f"Now complete the following example -\nInput: {question.strip()}") + "\nOutput: "
    definition = _stopped(f"Definition: {task.definition.strip()}") + "\n\n" if encoding.definition else ""
    kept: dict[str, list[str]] = {"Positive": [], "Negative": []}
    for kind, examples in (
        ("Positive", task.positive[: encoding.positive]),
        ("Negative", task.negative[: encoding.negative]),
    ):
        for number, example in enumerate(examples, start=1):
            text = _shown(kind, number, example, encoding.explanation)
            before = "".join(" ".join(texts) for texts in kept.values())
            if count(definition + before + text + ask) > limit:
                break
            kept[kind].append(text)
    name = f"{task.name}. " if encoding.task_name else ""
    source = name + definition + "".join(kept["Positive"]) + "".join(kept["Negative"]) + ask
    length = count(source)
    if length <= limit:
        return source
    if cut is None:
        raise RowSkipped(f"the question of {task.name} takes {length:,} tokens, more than {limit:,}")
    return cut(source, limit)


def drawn(id: str, seed: int = 0) -> Encoding:
    """One of the five encodings for a row, drawn by its id, each as often (Tk-Instruct's ``tk_instruct=True``)."""
    return list(ENCODINGS.values())[draw(seed, "superni.encoding", id) % len(ENCODINGS)]


def _shown(kind: str, number: int, example: Example, explanation: bool) -> str:
    lines = [
        f" {kind} Example {number} -",
        _stopped(f"Input: {example['input'].strip()}"),
        _stopped(f" Output: {example['output'].strip()}"),
    ]
    if explanation and "explanation" in example:
        lines.append(_stopped(f" Explanation: {example['explanation'].strip()}"))
    return "\n".join(lines) + "\n\n"


def _stopped(text: str) -> str:
    """With a full stop, unless the last character is an ASCII punctuation mark."""
    return text if text[-1] in string.punctuation else f"{text}."


def _texts(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [str(item) for item in items]


def _examples(path: Path, data: dict[str, Any], key: str) -> tuple[Example, ...]:
    examples = data.get(key) or []
    if not isinstance(examples, list) or not all(
        isinstance(e, dict) and {"input", "output"} <= e.keys() for e in examples
    ):
        raise SourceError(f"{path}:1: `{key}` should be a list of mappings with input and output")
    return tuple({name: "\n".join(_texts(value)) for name, value in example.items()} for example in examples)


def _instance(path: Path, name: str, number: int, instance: Any) -> dict[str, Any]:
    if not isinstance(instance, dict) or "input" not in instance:
        raise SourceError(f"{path}:1: the instance {number + 1} has no `input`")
    id = instance.get("id") or f"{name}-{number}"
    return {"id": str(id), "input": str(instance["input"]), "output": _texts(instance.get("output"))}
