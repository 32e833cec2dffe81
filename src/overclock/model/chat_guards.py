"""Guards in a parsed chat template: whatever can repeat or grow is made to report to its budget.

Calls and operators go through the sandbox anyway. Loops, outputs, ``~``, slices, comparisons and
new lists do not, so each is wrapped in a filter whose name no template can spell:

    {% for x in y %}  →  {% for x in y|steps %}         {{ a ~ b }}  →  {{ ((a, b)|concat)|emit }}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from jinja2 import nodes, pass_context
from jinja2.runtime import Context
from jinja2.visitor import NodeTransformer

from overclock.model import chat_limits
from overclock.model.chat_limits import made


class Guards(NodeTransformer):
    """Rewrites a template; the result means the same."""

    def visit(self, node: nodes.Node, *args: object, **kwargs: object) -> nodes.Node:
        """The node with its guards, and its children with theirs."""
        self.generic_visit(node)
        if isinstance(node, nodes.For):
            node.iter = _wrapped(node.iter, "steps of a loop")
        elif isinstance(node, nodes.Output):
            node.nodes = [_wrapped(_constant(child), "output") for child in node.nodes]
        elif isinstance(node, nodes.Concat):
            return _wrapped(nodes.List(node.nodes, lineno=node.lineno), "concatenation")
        elif isinstance(node, nodes.Expr) and _makes(node):
            return _wrapped(node, "new value")
        return node


def _makes(node: nodes.Expr) -> bool:
    """Whether a new value arises without the sandbox taking notice."""
    if isinstance(node, nodes.Tuple):
        return bool(node.ctx == "load")
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Slice)
    return isinstance(node, nodes.List | nodes.Dict | nodes.Compare)


def _wrapped(node: nodes.Node, guard: str) -> nodes.Filter:
    return nodes.Filter(node, guard, [], [], None, None, lineno=node.lineno)


def _constant(node: nodes.Node) -> nodes.Node:
    if isinstance(node, nodes.TemplateData):
        return nodes.Const(node.data, lineno=node.lineno)
    return node


# A filter that takes the context is never evaluated by the compiler.


@pass_context
def _steps(context: Context, items: Iterable[object]) -> Iterator[object]:
    return chat_limits.steps(items)


@pass_context
def _emit(context: Context, value: object) -> str:
    return made(value if isinstance(value, str) else str(made(value)))


@pass_context
def _concat(context: Context, parts: Iterable[object]) -> str:
    return chat_limits.joined("", parts)


@pass_context
def _made(context: Context, value: object) -> object:
    return made(value)


GUARDS: dict[str, Callable[..., object]] = {
    "steps of a loop": _steps,
    "output": _emit,
    "concatenation": _concat,
    "new value": _made,
}
