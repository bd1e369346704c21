"""Rows made up from what Jinja sources read, to render a template whose data set is not at hand.

    rows(["{{ premise }} … ||| {{ answer_choices[label] }}"], ENVIRONMENT, {"answer_choices": ["yes", "no"]})
    [{"premise": "a quiet harbour town 7", "label": 1}, …]

How a name is used says what it is: `x.text[0]` a mapping with a list of texts, `for x in y` a list, `x == "no"` one of the
constants that it is compared with, an index a small number. Every other row follows that; those between also
try other types for names whose use says little. The same sources always give the same rows.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, TemplateSyntaxError, meta, nodes

_TEXTS = (
    "The miller's cat sleeps in the barn. It rained all night.", "a quiet harbour town", "Who painted the old bridge?",
    "seven brass keys", "Ada: hello there!", "north", "It is  late, and the lamps are lit", "paper boats (two of them)",
    "We walked along the river until noon", "blue", "“quotes” & <b>marks</b> {{ braces }}", "ends with a space ", "one\ntwo",
)  # fmt: skip
_TEXT_METHODS = {"split", "lower", "upper", "strip", "replace", "startswith", "endswith", "splitlines"}
_TEXT_FILTERS = {"trim", "lower", "upper", "capitalize", "title", "replace", "string", "wordcount"}
_SAME_FILTERS = {"list", "unique", "sort", "reverse", "select", "reject", "selectattr", "rejectattr", "default", "d"}
_ITEM_FILTERS = {"first", "last", "random", "choice", "min", "max"}
_NUMBERS = nodes.Sub | nodes.Mul | nodes.Div | nodes.Neg | nodes.FloorDiv | nodes.Mod
_NONE = object()
_TAME = 40  # rows before the first that have empty values


@dataclass(eq=False)
class _Shape:
    """What the sources say of one value. members: of a mapping. item: of a list, whose item says of which list it is.
    values: constants it is compared with; holds: texts that it may contain; needs: that it
    contains, in this order. sizes: lengths it is compared with. split: the
    separator of a text and the shape of its parts. one_of: the list that it is looked up in. same: another value that it is compared with.
    counted: its length is asked for."""

    members: dict[str, _Shape] = field(default_factory=dict)
    item: _Shape | None = None
    of: _Shape | None = None
    values: list[Any] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    split: tuple[str, _Shape] | None = None
    one_of: _Shape | None = None
    same: _Shape | None = None
    counted: bool = False
    kind: str = ""  # "text", "number", "index", or "item" where only that is known

    @property
    def listed(self) -> bool:
        """Whether it can be no letter of a text."""
        return bool(self.members or self.item or self.values) or self.kind not in ("", "text")

    def member(self, name: str) -> _Shape:
        return self.members.setdefault(name, _Shape())

    def items(self) -> _Shape:
        self.item = self.item or _Shape(of=self)
        return self.item

    def used_as(self, kind: str) -> None:
        self.kind = kind if self.kind in ("", "item") else self.kind


@dataclass
class _Reader:
    """Goes over one tree and notes what it says of each name. constants: names with a known value. local: names that the tree
    itself gives to something."""

    root: _Shape
    constants: dict[str, Any]
    local: dict[str, _Shape | None] = field(default_factory=dict)

    def visit(self, node: nodes.Node) -> None:
        if isinstance(node, nodes.Expr):
            self.shape(node)
            return
        if isinstance(node, nodes.For):
            self.bind(node.target, self.iterated(node.iter))
        elif isinstance(node, nodes.Assign):
            if isinstance(node.target, nodes.Name) and (value := self.constant(node.node)) is not _NONE:
                self.constants[node.target.name] = value
            self.bind(node.target, self.shape(node.node))
            return
        for child in node.iter_child_nodes():
            self.visit(child)

    def bind(self, target: nodes.Node, shape: Any) -> None:
        if isinstance(target, nodes.Name):
            self.local[target.name] = shape if isinstance(shape, _Shape) else None
        elif isinstance(target, nodes.Tuple):
            parts = shape if isinstance(shape, list) else [None] * len(target.items)
            for name, part in zip(target.items, parts, strict=False):
                self.bind(name, part)

    def iterated(self, node: nodes.Node) -> Any:
        """The shape of what a loop over the expression sees; a list of shapes for ``zip``."""
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "zip":
            return [self.iterated(argument) for argument in node.args]
        shape = self.shape(node)
        if shape is not None:
            shape.items().used_as("item")
            return shape.item
        return None

    def constant(self, node: nodes.Node) -> Any:
        if isinstance(node, nodes.Name):
            return self.constants.get(node.name, _NONE)
        if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
            value = self.constant(node.node)
            return value.get(node.arg.value, _NONE) if isinstance(value, dict) else _NONE
        try:
            return node.as_const() if isinstance(node, nodes.Expr) else _NONE
        except Exception:  # nodes.Impossible, and whatever a filter raises on constants
            return _NONE

    def shape(self, node: nodes.Node) -> _Shape | None:
        """The shape of an expression, None where nothing of the row stands behind it; notes what its parts say."""
        if isinstance(node, nodes.Name):
            if node.name in self.local or node.name in self.constants:
                return self.local.get(node.name)
            return self.root.member(node.name)
        if isinstance(node, nodes.Getattr):
            inner = self.shape(node.node)
            return None if inner is None else inner.member(node.attr)
        if isinstance(node, nodes.Getitem):
            return self.got(node)
        if isinstance(node, nodes.Filter):
            return self.filtered(node)
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):
            return self.called(node, node.node)
        if isinstance(node, nodes.Compare):
            return self.compared(node)
        for child in node.iter_child_nodes():
            shape = self.shape(child)
            if shape is not None and isinstance(node, _NUMBERS):
                shape.used_as("number")
        return None

    def compared(self, node: nodes.Compare) -> None:
        left, right, operator = node.expr, node.ops[0].expr, node.ops[0].op
        one, other = self.shape(left), self.shape(right)
        left_value, right_value = self.constant(left), self.constant(right)
        if operator in ("in", "notin"):
            if one is not None and isinstance(right_value, list | tuple):
                one.values += right_value
            elif other is not None and isinstance(left_value, str):
                other.holds.append(left_value)
            elif other is not None and other.kind != "text":
                other.items().used_as("index")
            return
        for shape, side in ((one, right), (other, left)):
            if shape is not None and isinstance(side, nodes.Getattr) and side.attr in ("index", "index0"):
                shape.used_as("index")
        for shape, value, source in ((one, right_value, left), (other, left_value, right)):
            if value is _NONE:
                continue
            if isinstance(source, nodes.Filter) and source.name in ("length", "count") and source.node is not None:
                sized = self.shape(source.node)
                if sized is not None and isinstance(value, int):
                    sized.sizes += [max(0, value + more) for more in (-1, 0, 1)]
            elif shape is not None:
                shape.values += _around(value)
        if one is not None and other is not None:
            one.same, other.same = other, one
            for item, free in ((one, other), (other, one)):
                if item.of is not None:
                    free.one_of = item.of

    def got(self, node: nodes.Getitem) -> _Shape | None:
        inner, arg = self.shape(node.node), node.arg
        if isinstance(arg, nodes.Slice):
            for end in (arg.start, arg.stop):
                self.index(end)
            return inner
        if isinstance(arg, nodes.Const) and isinstance(arg.value, str):
            return None if inner is None else inner.member(arg.value)
        keys = self.constant(node.node)
        if isinstance(node.node, nodes.Dict):
            keys = {pair.key.value: None for pair in node.node.items if isinstance(pair.key, nodes.Const)}
        key = self.shape(arg)
        if key is not None and isinstance(keys, dict):
            key.values += list(keys) * 3
        elif key is not None:
            self.index(arg)
        return None if inner is None else inner.items()

    def index(self, node: nodes.Node | None) -> None:
        shape = None if node is None else self.shape(node)
        if shape is not None:
            shape.used_as("index")

    def filtered(self, node: nodes.Filter) -> _Shape | None:
        inner = self.shape(node.node) if node.node is not None else None
        for argument in node.args:
            self.shape(argument)
        if inner is None:
            return None
        inner.counted |= node.name in ("length", "count")
        first = node.args[0].value if node.args and isinstance(node.args[0], nodes.Const) else None
        if node.name in _TEXT_FILTERS:
            inner.used_as("text")
            return inner
        if node.name in _ITEM_FILTERS:
            if node.name in ("choice", "random"):
                inner.items().used_as("item")
            return inner.items()
        if node.name == "join":
            inner.items().used_as("item")
            return inner.items()
        elif node.name in ("selectattr", "rejectattr") and isinstance(first, str):
            inner.items().member(first).values += [arg.value for arg in node.args[2:] if isinstance(arg, nodes.Const)]
        elif node.name == "map" and node.kwargs and isinstance(node.kwargs[0].value, nodes.Const):
            inner.items().member(str(node.kwargs[0].value.value))
        elif node.name in ("int", "float", "abs", "round"):
            inner.used_as("number")
            return inner
        return inner if node.name in _SAME_FILTERS else None

    def called(self, node: nodes.Call, method: nodes.Getattr) -> _Shape | None:
        inner, arguments = self.shape(method.node), [self.shape(argument) for argument in node.args]
        if method.attr == "index" and arguments and arguments[0] is not None:
            choices = self.constant(method.node)
            if isinstance(choices, list):
                arguments[0].values += choices * 3
            elif inner is not None:
                inner.items().used_as("item")
                arguments[0].one_of = inner
        if inner is None:
            return None
        if method.attr == "split":
            separator = self.constant(node.args[0]) if node.args else " "
            inner.used_as("text")
            inner.split = inner.split or (str(separator) if separator is not _NONE else " ", _Shape(kind="list"))
            return inner.split[1]
        if method.attr in _TEXT_METHODS:
            inner.used_as("text")
            return inner
        if method.attr in ("index", "find", "partition", "rpartition") and node.args:
            separator = self.constant(node.args[0])
            if isinstance(separator, str) and inner.item is None:
                inner.used_as("text")
                inner.needs.append(separator)
            return None
        if method.attr == "append":
            inner.items().used_as("item")
        elif method.attr == "pop":
            return inner.items()
        return None


def _around(value: Any) -> list[Any]:
    """A constant of a comparison, and numbers on both sides of it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [value]
    return [value, value - 1, value + 1, *([value - 0.05, value + 0.05] if isinstance(value, float) else [])]


def rows(
    sources: list[str], environment: Environment, known: Mapping[str, list[str]], count: int | None = 40
) -> Iterator[dict[str, Any]]:
    """``count`` rows for all the sources together, or rows without end. known: names that are no columns, with their values. A source that is
    not valid Jinja is passed over."""
    root, names = _Shape(), set()
    for source in sources:
        try:
            tree = environment.parse(source)
            read = meta.find_undeclared_variables(tree)
        except (TemplateSyntaxError, RecursionError):
            continue
        _Reader(root, dict(known)).visit(tree)
        names |= read
    names -= environment.globals.keys() | known.keys()
    for number in itertools.count() if count is None else range(count):
        rng = random.Random(number)
        size = rng.choice((2, 3, 3, 4, 4, 5))
        maker = _Maker(rng, loose=number % 2 == 1, texts=number % 4 > 1, size=size, wild=number >= _TAME)
        yield maker.row({name: root.member(name) for name in sorted(names)})


@dataclass
class _Maker:
    """One row. loose: with other types for some columns. texts: what is only indexed is a text, not a list. size: of lists.
    wild: with empty values.
    made: the value of each shape, by its identity."""

    rng: random.Random
    loose: bool
    texts: bool
    size: int
    wild: bool
    made: dict[int, Any] = field(default_factory=dict)

    def row(self, columns: dict[str, _Shape]) -> dict[str, Any]:
        row = {name: self.value(shape, top=True) for name, shape in columns.items()}
        for name, shape in columns.items():
            items = self.made.get(id(shape.one_of))
            if isinstance(items, list) and items and shape.item is None and not shape.members:
                row[name] = self.rng.choice(items)
        return row

    def value(self, shape: _Shape, top: bool = False) -> Any:
        value = self.made[id(shape)] = self.new(shape, top)
        return value

    def new(self, shape: _Shape, top: bool) -> Any:
        rng, plain = self.rng, shape.item is None and not shape.members
        if shape.same is not None and id(shape.same) in self.made and rng.random() < 0.5:
            return self.made[id(shape.same)]
        if self.wild and plain and rng.random() < 0.15:
            return rng.choice(("", "", 0, 1, None) if top else ("", 0, 1))
        if top and plain and self.loose and rng.random() < 0.3:
            return self.anything()
        if shape.split is not None:
            return shape.split[0].join(map(str, self.list(shape.split[1])))
        if shape.item is not None and shape.kind != "text" and not shape.members:
            return (
                self.list(shape)
                if not self.texts or shape.counted or shape.item.listed
                else f"{rng.choice(_TEXTS)} {rng.choice(_TEXTS)}"
            )
        if shape.members and shape.kind != "text":
            return {name: self.value(part) for name, part in shape.members.items()}
        numbers = all(isinstance(value, int | float) for value in shape.values)
        if shape.values and not (shape.kind == "index" and numbers) and rng.random() < 0.8:
            return rng.choice(shape.values)
        if shape.kind == "index" or (shape.values and numbers):
            return rng.choice((0, 1, 1, 0, 2, 3, -1, *filter(lambda value: numbers and value != -1, shape.values)))
        if shape.kind == "number":
            return rng.choice((0, 1, 2, 3, 0.5, 4.75))
        if shape.sizes and rng.random() < 0.5:
            return (" ".join(rng.choice(_TEXTS) for _ in range(50)) * 50)[: rng.choice(shape.sizes)]
        if shape.needs:
            parts = (part for one in dict.fromkeys(shape.needs) for part in (one, rng.choice(_TEXTS)))
            return " ".join((rng.choice(_TEXTS), *parts))
        words = rng.choice(_TEXTS) + (f" {rng.randrange(100)}" if rng.random() < 0.7 else "")
        return (
            " ".join((words, rng.choice(shape.holds), rng.choice(_TEXTS)))
            if shape.holds and rng.random() < 0.6
            else words
        )

    def list(self, shape: _Shape) -> list[Any]:
        size = self.rng.choice(shape.sizes) if shape.sizes and self.rng.random() < 0.8 else self.size
        if self.wild and self.rng.random() < 0.3:
            size = self.rng.choice((0, 0, 1, 6, 8))
        items: list[Any] = []
        item = shape.items()
        for _ in range(size):
            made = self.value(item)
            if made in items and isinstance(made, str) and not item.values:
                made = f"{made} {len(items)}"
            items.append(made)
        return items

    def anything(self) -> Any:
        rng = self.rng
        number, text = rng.choice((rng.randrange(4), 0.25, 3.5)), rng.choice(_TEXTS)
        return rng.choice((text, number, number, rng.random() < 0.5, rng.sample(_TEXTS, 3)))
