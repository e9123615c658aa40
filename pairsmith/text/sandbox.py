"""The Jinja environment for templates from recipes: values, conditions, loops and filters, bounded in size and time.

Jinja's own sandbox keeps a template from reaching Python, but bounds neither memory nor time. Here a template cannot
call or assign anything, and every step of a loop checks the time; `bounded_filters` bounds each filter and test.

Values are data: `row.items` is the field `items`, never Python's method of that name. What a template shows is text,
a number or a boolean. A null is shown as nothing, and anything else is refused: its text would be Python's own.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pairsmith.text.bounded_filters import FILTERS, TESTS, counted, shown
from pairsmith.text.bounds import check_bounds, deep_size, spend

_NODES = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Expr, nodes.Helper)
_MAX_EXPONENT = 64


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without calls and assignments: only values, conditions, loops and filters."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def is_safe_callable(self, obj: Any) -> bool:
        return False

    def getattr(self, obj: Any, attribute: str) -> Any:
        return super().getattr(obj, attribute) if isinstance(obj, LoopContext) else self._item(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        return super().getitem(obj, argument) if isinstance(obj, LoopContext) else self._item(obj, argument)

    def _item(self, obj: Any, key: Any) -> Any:
        try:
            return obj[key]
        except (AttributeError, TypeError, LookupError):
            return self.undefined(obj=obj, name=key)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and not isinstance(left, int | float):
            raise SecurityError("% formats texts without bounds; it is for numbers")
        one, other = deep_size(left), deep_size(right)
        made = {"+": len(left) + len(right) if hasattr(left, "__len__") else 0, "*": one * other, "%": 0}
        check_bounds(made.get(operator, max(one, other)))
        if operator == "**" and other > _MAX_EXPONENT:
            raise SecurityError("** with an exponent that large is not allowed in a template")
        result = super().call_binop(context, operator, left, right)
        spend(deep_size(result) if hasattr(result, "__len__") else 0)
        return result

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in list(tree.find_all(nodes.Node)):
            if not isinstance(node, _NODES) or (isinstance(node, nodes.For) and node.recursive):
                raise jinja2.TemplateSyntaxError(f"{type(node).__name__} is not allowed here", node.lineno)
        _rewrite(tree)
        return tree


def _rewrite(node: nodes.Node) -> None:
    """Rewrite a template so that each step of a loop is checked, and every value that becomes text goes by `shown`."""
    for field, value in node.iter_fields():
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, nodes.Node):
                _rewrite(child)
        if isinstance(value, list):
            value[:] = [_rewritten(node, child) for child in value]
        else:
            setattr(node, field, _rewritten(node, value))
    if isinstance(node, nodes.For):
        node.iter = _filtered(cast("nodes.Expr", node.iter), "counted")


def _rewritten(parent: nodes.Node, child: Any) -> Any:
    """What takes the place of a node: `~` becomes `+`, which is bounded, and what is put out is `shown`."""
    made = child
    if isinstance(child, nodes.Concat):
        texts: list[nodes.Expr] = [_filtered(_shown(part), "string") for part in child.nodes]
        made = reduce(lambda one, other: nodes.Add(one, other, lineno=child.lineno), texts)
    if isinstance(parent, nodes.Output) and not isinstance(child, nodes.TemplateData):
        made = _shown(made)
    return made


def _shown(node: nodes.Expr) -> nodes.Filter:
    return _filtered(node, "shown", nodes.Const(_name(node), lineno=node.lineno))


def _filtered(node: nodes.Expr, name: str, *words: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(words), [], None, None, lineno=node.lineno)


def _name(node: nodes.Node | None) -> str:
    """What a template calls a value, for messages."""
    if isinstance(node, nodes.Name):
        return node.name
    if isinstance(node, nodes.Getattr):
        return f"{_name(node.node)}.{node.attr}"
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return f"{_name(node.node)}[{node.arg.value!r}]"
    return f"{_name(node.node)}|{node.name}" if isinstance(node, nodes.Filter) else "an expression"


@lru_cache(maxsize=256)
def is_one_value(template: str) -> bool:
    """Whether a template is a value alone, as `{{ task.code }}`: without text of its own at either end, nor joined."""
    body = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).parse(template.strip()).body  # noqa: S701
    if len(body) != 1 or not isinstance(body[0], nodes.Output) or len(body[0].nodes) != 1:
        return False
    (value,) = body[0].nodes
    joined = nodes.Concat | nodes.Add | nodes.TemplateData
    return not isinstance(value, joined) and not any(value.find_all((nodes.Concat, nodes.Add)))


@lru_cache(maxsize=1)
def sandbox() -> _Environment:
    """The environment in which templates from recipes are compiled."""
    made = _Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals.clear()
    made.filters = FILTERS | {"counted": counted, "shown": shown}
    made.tests = dict(TESTS)
    return made
