"""Jinja as template files may use it: sandboxed, strict, deterministic, compiled once.

No global names (no ``range``, ``lipsum``, ``cycler``), no ``random``, no includes: a template sees its roles, Jinja's
filters and tests, and ours (curate/template/cleanup.py). White space is literal: blocks eat no newline, and a final newline
stays. A text of the row is data; braces in it are never evaluated.
"""

from __future__ import annotations

import functools
import re
import signal
import threading
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import BuiltinMethodType
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, meta, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from curate.contract.errors import RowSkipped
from curate.template.cleanup import FILTERS, TEXT_FILTERS

_PATH = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
LONGEST = 10_000_000  # characters of one text
SLOWEST = 1.0  # seconds of processor time for one row
_LARGEST = 100_000  # of a number in a template: a larger width or count is a mistake, or an attack
_DEEPEST = 60  # brackets and blocks within each other
_WIDENING = {
    "center",
    "encode",
    "expandtabs",
    "format",
    "format_map",
    "ljust",
    "rjust",
    "to_bytes",
    "translate",
    "zfill",
}
_OF_TEXTS = {"count", "endswith", "find", "join", "lower", "lstrip", "partition", "replace", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "upper"}  # fmt: skip
TOO_MUCH = "it needs more memory than it may have"
_MOST_LOOPS = 12  # within each other; Python itself takes 20
_LONGEST_SOURCE = 200_000  # characters of one text of a template
_PASSING = (Iterator, KeysView, ValuesView, ItemsView)  # what is empty, or another, when it is looked at again
_PLAIN = frozenset({str, int, float, bool, list, dict, tuple, type(None)})
_PIECES = 512  # of a text, before they are counted one by one
_LOADING = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)


class Stopped(Exception):
    """A text that grew too long or took too much time."""


class TooSlow(Stopped):
    """A row that takes too much time here and now."""


class _Watch:
    """Tells a row that takes too long: ``with WATCH:`` around the work on each. A timer of processor time looks whether it is
    still the same row."""

    TICK = 0.1

    def __init__(self) -> None:
        self._row = self._seen = self._ticks = 0
        self._inside = False

    def __enter__(self) -> None:
        self._row += 1
        self._inside = True

    def __exit__(self, *_: object) -> None:
        self._inside = False

    def tick(self, *_: Any) -> None:
        self._ticks = self._ticks + 1 if self._inside and self._row == self._seen else 0
        self._seen = self._row
        if self._ticks * self.TICK >= SLOWEST:
            self._ticks, self._inside = 0, False
            raise TooSlow(f"it takes over {SLOWEST:g} s")


WATCH = _Watch()


@contextmanager
def watched() -> Iterator[None]:
    """Stops a row that takes more than SLOWEST, by a signal: in the main thread only, and not inside one call of C."""
    main = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not main or signal.getsignal(signal.SIGVTALRM) == WATCH.tick:  # or watched already
        yield
        return
    before = signal.signal(signal.SIGVTALRM, WATCH.tick)
    signal.setitimer(signal.ITIMER_VIRTUAL, _Watch.TICK, _Watch.TICK)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class _Sandbox(ImmutableSandboxedEnvironment):
    """`2 ** 9999999`, `"x" * 10**9`, `"%999999999d" % 1` and what pads a text to a width have no place in a template."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise SecurityError(f"the operator {operator} works on numbers only, and ** not at all")
        return left * right if operator == "*" else left % right

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Of texts what is known to be harmless without a second look, at a fifth of the cost."""
        return (
            getattr(obj, attribute)
            if obj.__class__ is str and attribute in _OF_TEXTS
            else super().getattr(obj, attribute)
        )

    def call(self, context: Context, obj: Any, *arguments: Any, **options: Any) -> Any:
        if (
            not options
            and obj.__class__ is BuiltinMethodType
            and obj.__self__.__class__ is str
            and obj.__name__ in _OF_TEXTS
        ):
            return obj(*arguments)
        return super().call(context, obj, *arguments, **options)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _WIDENING and super().is_safe_attribute(obj, attr, value)


@pass_context  # so that Jinja evaluates no constant while it compiles
def _printable(context: Context, value: Any) -> Any:
    """What ``{{ … }}`` may print. Jinja itself would print "None", Python's notation of a list, and where a method lies."""
    if value.__class__ is str:
        return value
    if value is None:
        raise RowSkipped("a value that the template prints is null")
    if callable(value) and not isinstance(value, Undefined):
        raise TypeError(
            f"prints the method `{getattr(value, '__name__', value)}` and not what it gives; write `()` after it"
        )
    if not isinstance(value, str | int | float | Undefined):
        raise TypeError("prints a list or a mapping as it is; join its items, or print one of them")
    return value


_WORDS: dict[type, str] = {
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    bool: "true or false",
    type(None): "null",
}


def _environment() -> _Sandbox:
    environment = _Sandbox(
        undefined=StrictUndefined, keep_trailing_newline=True, finalize=_printable, cache_size=0, optimized=False
    )
    environment.globals.clear()
    for name in ("random", "center", "format"):  # "%999999999d" | format(1) is a gigabyte
        del environment.filters[name]
    for name in ("trim", "string", "upper", "lower", "capitalize", "title", "replace", "striptags"):
        no_text = (list, tuple, dict, bool) if name == "trim" else (list, tuple, dict)
        environment.filters[name] = _of_texts(name, environment.filters[name], no_text)
    environment.filters.update(FILTERS)
    for name in TEXT_FILTERS:
        no_text = (list, tuple, dict, bool, int, float, type(None))
        environment.filters[name] = _of_texts(name, FILTERS[name], no_text)
    return environment


def _of_texts(name: str, function: Callable[..., Any], no_text: tuple[type, ...]) -> Callable[..., Any]:
    """The filter, which skips a row whose value it would print in Python's notation, or fail on."""
    first = int(hasattr(function, "jinja_pass_arg"))  # some of Jinja's take its context before the value

    @functools.wraps(function)
    def checked(*arguments: Any, **options: Any) -> Any:
        value = arguments[first]
        if value.__class__ is not str and isinstance(value, no_text):
            what = _WORDS.get(type(value), "a number")
            raise RowSkipped(f"`{name}` expects a text, and the value is {what}")
        return function(*arguments, **options)

    return checked


ENVIRONMENT = _environment()


_Root = Callable[[Context], Iterator[str]]  # a compiled source: its pieces, one after the other


@dataclass(frozen=True, slots=True)
class Text:
    """A text with ``{{ … }}``, compiled. ``reads``: the names it needs. Calling it with a mapping renders it; not from two
    threads at once."""

    source: str
    reads: frozenset[str]
    _root: _Root
    _context: Context

    @classmethod
    def of(cls, source: str) -> Text:
        """Raises TemplateSyntaxError, SecurityError."""
        return cls(source, text_reads(source), *_compiled(source))

    def __call__(self, names: Mapping[str, Any]) -> str:
        context = self._context
        context.parent = names  # type: ignore[assignment]
        if context.vars:  # what the row before has set
            context.vars.clear()
        source = self._root(context)
        pieces = list(islice(source, _PIECES))
        if len(pieces) == _PIECES:
            pieces += _counted(source, sum(map(len, pieces)))
        text = "".join(pieces)
        if len(text) > LONGEST:
            raise Stopped(_TOO_LONG)
        return text


_TOO_LONG = f"its text is longer than {LONGEST:,} characters"


def _counted(source: Iterable[str], length: int) -> Iterator[str]:
    for piece in source:
        length += len(piece)
        if length > LONGEST:
            raise Stopped(_TOO_LONG)
        yield piece


@dataclass(frozen=True, slots=True)
class Expressions:
    """Several expressions over one mapping, compiled as one: calling it gives the tuple of their values."""

    _root: _Root
    _context: Context

    @classmethod
    def of(cls, sources: Sequence[str], checked: bool = False) -> Expressions:
        """checked: they are known to be whole expressions inside the sandbox. Raises TemplateSyntaxError, SecurityError."""
        for source in () if checked else sources:
            expression_reads(source)  # refuses what is no whole expression, or leaves the sandbox
        joined = "".join(f"({source}), " for source in sources)
        return cls(*_compiled("{% set result = (" + joined + ") %}"))

    def __call__(self, names: Mapping[str, Any]) -> tuple[Any, ...]:
        context = self._context
        context.parent = names  # type: ignore[assignment]
        context.vars.clear()  # a name may be called `result` too
        for _ in self._root(context):
            pass
        values = context.vars["result"]
        if _PLAIN.issuperset(map(type, values)):
            return values
        for value in values:
            if isinstance(value, Undefined):
                value._fail_with_undefined_error()
        return tuple(list(value) if isinstance(value, _PASSING) else value for value in values)


def _compiled(source: str) -> tuple[_Root, Context]:
    """A source's generator, and one Jinja context that is used again for every row: its ``parent`` are the names, which
    are only read. ``Template.render`` makes a context each time, at ten times the cost of the text itself."""
    return ENVIRONMENT.from_string(source).root_render_func, Context(ENVIRONMENT, {}, None, {})


def _depth(tree: nodes.Node, kind: type[nodes.Node] = nodes.Node) -> int:
    """How many nodes of a kind stand within each other, told without recursion; one after the other in a list is no depth."""
    deepest, left = 0, [(tree, 0)]
    while left:
        node, depth = left.pop()
        depth += isinstance(node, kind)
        if isinstance(node, nodes.If) and kind is nodes.Node:
            depth += len(node.elif_)  # Python takes them as blocks within each other
        deepest = max(deepest, depth)
        left += [(child, depth) for child in node.iter_child_nodes()]
    return deepest


def is_path(source: str) -> bool:
    """Whether a column is named by a plain dotted path, which needs no Jinja."""
    return _PATH.fullmatch(source) is not None


@functools.lru_cache(maxsize=4096)
def text_reads(source: str) -> frozenset[str]:
    """The names that a text reads. Raises TemplateSyntaxError, SecurityError."""
    return frozenset(meta.find_undeclared_variables(_parsed(source)))


@functools.lru_cache(maxsize=4096)
def expression_reads(source: str) -> frozenset[str]:
    """The names that an expression reads. Raises TemplateSyntaxError, SecurityError."""
    tree = _parsed("{{ " + source + " }}")  # before it is compiled: what is too deep is said there
    ENVIRONMENT.compile_expression(source)  # one whole expression, not a piece that would close our bracket
    return frozenset(meta.find_undeclared_variables(tree))


@functools.lru_cache(maxsize=4096)
def expression_needs(source: str) -> frozenset[str]:
    """The names that must be there: those that also stand outside every ``default``."""
    return frozenset(_outside_default(_parsed("{{ " + source + " }}")))


def _outside_default(node: nodes.Node) -> Iterator[str]:
    if isinstance(node, nodes.Filter) and node.name in ("default", "d"):
        return
    if isinstance(node, nodes.Name):
        yield node.name
    for child in node.iter_child_nodes():
        yield from _outside_default(child)


def _parsed(source: str) -> nodes.Template:
    if len(source) > _LONGEST_SOURCE:
        raise TemplateSyntaxError(f"it is longer than {_LONGEST_SOURCE:,} characters", 1)
    try:
        tree = ENVIRONMENT.parse(source)
        too_deep = _depth(tree) > _DEEPEST or _depth(tree, nodes.For) > _MOST_LOOPS
    except RecursionError:
        too_deep = True
    except ValueError as error:  # a number of thousands of digits
        raise TemplateSyntaxError(str(error), 1) from error
    if too_deep:
        raise TemplateSyntaxError(f"more than {_DEEPEST} brackets, operators or blocks stand within each other", 1)
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, int | float) and abs(constant.value) > _LARGEST:
            raise SecurityError(
                f"the number {constant.value:.6g} is larger than {_LARGEST:,}, the most that a template may say"
                if abs(constant.value) < 1e300
                else f"a number is larger than {_LARGEST:,}, the most that a template may say"
            )
    for node in tree.find_all((*_LOADING, nodes.Getattr, nodes.Getitem)):
        name = getattr(node, "attr", None) or getattr(getattr(node, "arg", None), "value", None)
        if isinstance(node, _LOADING):
            raise TemplateSyntaxError("include, import and extends are not available; write the text out", node.lineno)
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"it tries to reach '{name}', which the sandbox forbids")
    return tree
