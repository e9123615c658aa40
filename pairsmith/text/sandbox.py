"""The Jinja environment for templates from recipes: values, conditions, loops and filters, bounded in size and time.

Jinja's own sandbox keeps a template from reaching Python, but bounds neither memory nor time. Here a template cannot
call or assign anything, the size of every filter's result is checked, and every step of a loop checks the time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, reduce, wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_RENDERED = 4_000_000  # characters
_SECONDS = 1.0  # of processor time
_deadline: ContextVar[float] = ContextVar("deadline")
# The filters that a recipe's templates may use. Each takes time and memory in proportion to its input.
_FILTERS = (
    "abs capitalize count d default dictsort e escape first float int items join last length list lower map max min "
    "reject rejectattr replace reverse round select selectattr sort string striptags title tojson trim truncate unique "
    "upper wordcount"
).split()
_NODES = (nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Expr, nodes.Helper)


def _check_bounds(size: float = 0) -> None:
    """Raise SecurityError if `size` is too large or the rendering has taken too long."""
    if size > MAX_RENDERED:
        raise SecurityError(f"more than {MAX_RENDERED} characters or items")
    if time.thread_time() > _deadline.get(math.inf):
        raise SecurityError(f"takes more than {_SECONDS:g} s")


def _size(value: Any) -> float:
    return len(value) if hasattr(value, "__len__") else abs(value) if isinstance(value, int | float) else 1


def _counted(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _check_bounds()
        yield value


def _join(values: Iterable[Any], by: str = "", attribute: str | int | None = None) -> str:
    parts = [str(value if attribute is None else value[attribute]) for value in _counted(values)]
    _check_bounds(sum(map(len, parts)) + len(by) * len(parts))
    return by.join(parts)


def _replace(text: str, old: str, new: str) -> str:
    _check_bounds(len(str(text)) + str(text).count(old) * len(new))
    return str(text).replace(old, new)


def _bounded(apply: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(apply)
    def bounded(*args: Any, **words: Any) -> Any:
        _check_bounds()
        result = apply(*args, **words)
        if isinstance(result, str | list | tuple):
            _check_bounds(len(result))
        return result

    return bounded


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox without calls and assignments: only values, conditions, loops and filters."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def is_safe_callable(self, obj: Any) -> bool:
        return False

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and not isinstance(left, int | float):
            raise SecurityError("% formats texts without bounds; it is for numbers")
        one, other = _size(left), _size(right)
        sizes = {"+": one + other if hasattr(left, "__len__") else 0, "*": one * other, "%": 0}
        _check_bounds(sizes.get(operator, max(one, other)))
        if operator == "**" and other > 64:
            raise SecurityError("** with an exponent that large is not allowed in a template")
        return super().call_binop(context, operator, left, right)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for node in list(tree.find_all(nodes.Node)):
            if not isinstance(node, _NODES) or (isinstance(node, nodes.For) and node.recursive):
                raise jinja2.TemplateSyntaxError(f"{type(node).__name__} is not allowed here", node.lineno)
        _bound_loops_and_texts(tree)
        return tree


def _bound_loops_and_texts(node: nodes.Node) -> None:
    """Rewrite a template so that each step of a loop is checked, and texts are joined with `+`, which is bounded."""
    for field, value in node.iter_fields():
        for place, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, nodes.Node):
                continue
            _bound_loops_and_texts(child)
            if isinstance(child, nodes.For):
                child.iter = nodes.Filter(child.iter, "counted", [], [], None, None, lineno=child.lineno)
            if isinstance(child, nodes.Concat):
                texts: list[nodes.Expr] = [
                    nodes.Filter(part, "string", [], [], None, None, lineno=child.lineno) for part in child.nodes
                ]
                made = reduce(lambda one, other: nodes.Add(one, other, lineno=child.lineno), texts)
                if place is None:
                    setattr(node, field, made)
                else:
                    value[place] = made


@lru_cache(maxsize=1)
def sandbox() -> _Environment:
    """The environment in which templates from recipes are compiled."""
    made = _Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.globals.clear()
    known = {name: made.filters[name] for name in _FILTERS} | {"join": _join, "replace": _replace}
    made.filters = {name: _bounded(apply) for name, apply in known.items()} | {"counted": _counted}
    return made


@contextmanager
def time_bound() -> Iterator[None]:
    """Limit all rendering within the block to one second of processor time."""
    token = _deadline.set(time.thread_time() + _SECONDS)
    try:
        yield
    finally:
        _deadline.reset(token)
