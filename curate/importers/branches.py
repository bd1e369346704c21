"""Which branches of a template some rows have taken, so that what is proven on rows is proven of every branch.

    branches = Branches.of(["{% if stars > 3 %}good{% else %}bad{% endif %}"])
    branches.texts[0].render({**row, branches.SEEN: seen})          seen: {(0, True)}
    branches.missed(seen)                                           ["`stars > 3` is never false"]

A branch is each outcome of a test in `if`, `elif` and `… if … else …`, of a part of `and` and `or`, and of a comparison; and
the body of a loop. What reads nothing of the row has no branches; nor does it count where the last `elif`, with no `else` after
it, is false: an `elif` for all that is left is never that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from jinja2 import Template, nodes, pass_context
from jinja2.runtime import Context

from curate.importers.promptsource import ENVIRONMENT, parsed

_SEEN = " seen"  # the name of the row's set in the context; no template can say a name with a space
_NOTE = " note"  # the filter's


@pass_context
def _note(context: Context, value: Any, key: int, says: Any = None) -> Any:
    """Notes the outcome; gives the value, or ``says``."""
    context.resolve_or_missing(_SEEN).add((key, bool(value)))
    return value if says is None else says


ENVIRONMENT.filters[_NOTE] = _note


def _is_note(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Filter) and node.name == _NOTE


def _is_change(node: nodes.Node) -> bool:
    """`x.append(…)`, which is None always."""
    called = node.node if isinstance(node, nodes.Call) else None
    return isinstance(called, nodes.Getattr) and called.attr in ("append", "update", "extend", "insert")


@dataclass
class Branches:
    """Sources compiled so that they note each branch. wanted: its key and outcome, and what is missed without it."""

    SEEN: ClassVar[str] = _SEEN
    texts: list[Template] = field(default_factory=list)
    wanted: dict[tuple[int, bool], str] = field(default_factory=dict)
    _key: int = 0

    @classmethod
    def of(cls, sources: Iterable[str]) -> Branches:
        """Raises TemplateSyntaxError, SecurityError."""
        branches = cls()
        for source in sources:
            tree = parsed(source)
            branches._inside(tree)
            tree.set_environment(ENVIRONMENT)
            branches.texts.append(Template.from_code(ENVIRONMENT, ENVIRONMENT.compile(tree), ENVIRONMENT.globals))
        return branches

    def missed(self, seen: set[tuple[int, bool]]) -> list[str]:
        """What no row has shown."""
        return [says for key, says in self.wanted.items() if key not in seen]

    def _inside(self, node: Any) -> None:
        if isinstance(node, nodes.If | nodes.CondExpr):
            if isinstance(node, nodes.If) and node.elif_ and not node.else_:
                last: Any = node.elif_[-1]
                last.test = self._noted(last.test, (True,))
            node.test = self._noted(node.test)
        elif isinstance(node, nodes.And | nodes.Or):
            node.left, node.right = self._noted(node.left), self._noted(node.right)
        elif isinstance(node, nodes.For):
            if node.test is not None:
                node.test = self._noted(node.test)
            body = self._new(nodes.Const(True), node.lineno, nodes.Const(""))
            self.wanted[self._key, True] = f"the loop on line {node.lineno} is never entered"
            node.body.insert(0, nodes.Output([body], lineno=node.lineno))
        for name, value in list(node.iter_fields()):
            if isinstance(value, nodes.Compare) and not _is_note(node):
                setattr(node, name, self._noted(value))
            elif isinstance(value, list):
                value[:] = [self._noted(item) if isinstance(item, nodes.Compare) else item for item in value]
        for child in list(node.iter_child_nodes()):
            self._inside(child)

    def _noted(self, test: Any, outcomes: tuple[bool, ...] = (True, False)) -> Any:
        """The test, wrapped once; what reads no name is left as it is. outcomes: those that are wanted."""
        if _is_note(test) or test.find(nodes.Name) is None or _is_change(test):
            return test
        if isinstance(test, nodes.Not):
            test.node = self._noted(test.node)
            return test
        noted = self._new(test, test.lineno)
        for outcome in outcomes:
            what = f"a condition on line {test.lineno} is never {'true' if outcome else 'false'}"
            self.wanted[self._key, outcome] = what
        return noted

    def _new(self, value: nodes.Expr, line: int, *says: nodes.Expr) -> nodes.Filter:
        self._key += 1
        return nodes.Filter(value, _NOTE, [nodes.Const(self._key), *says], [], None, None, lineno=line)
