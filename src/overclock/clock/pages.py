"""Who holds which KV page: free, private to one request, or in the tree of prefixes.

::

    root ── [32 tokens] ── [32 tokens] ── (tail: 9 tokens)      a request's pages: two nodes, then
                      └─── [32 tokens]                          private ones (the tail's is private
                                                                until its request has ended)

A node of the tree is one page and the tokens that stand in it. Only a full page has children. A
request holds the nodes from the root down to its own end (`users` counts the holders), and behind
them private pages that only it writes. A node that nobody holds stays until its page is wanted
elsewhere: least recently used first, leaves before their parents.

A page that is still being computed is in the tree already, *pending*: another request with the
same beginning waits for it instead of computing it again. A request that parts from a page in the
middle takes a copy of it and goes on writing there: nobody writes a page that another one reads.

Each root is one world of prefixes: tenants with different salts, or adapters, share nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from overclock.program.program import PAGE_TOKENS

MOST_COMPARED = 8
"""Pages that begin with the wanted token and are compared for the longest common part."""


class Node:
    """A page in the tree: `tokens` stand in it; `owner` is computing it while it is pending."""

    __slots__ = ("children", "firsts", "owner", "page", "parent", "pending", "tokens", "users")

    def __init__(
        self, parent: Node | None, tokens: tuple[int, ...], page: int, owner: Holding | None
    ) -> None:
        self.parent = parent
        self.tokens = tokens
        self.page = page
        self.owner = owner  # whose private page this still is: of a tail or a pending page
        self.pending = False
        self.users = 0
        self.children: dict[tuple[int, ...], Node] = {}
        self.firsts: dict[int, list[Node]] = {}  # children by their first token

    @property
    def is_full(self) -> bool:
        """Whether no more tokens fit."""
        return len(self.tokens) == PAGE_TOKENS

    def attach(self, child: Node) -> None:
        """Take a child."""
        self.children[child.tokens] = child
        self.firsts.setdefault(child.tokens[0], []).append(child)

    def detach(self, child: Node) -> None:
        """Give a child away."""
        del self.children[child.tokens]
        siblings = self.firsts[child.tokens[0]]
        siblings.remove(child)
        if not siblings:
            del self.firsts[child.tokens[0]]


@dataclass(slots=True, eq=False)
class Holding:
    """The pages of one request: first `nodes` in the tree, then `own` private ones.

    `tail` is the leaf that shows the first private page to others, as far as it was announced.
    """

    root: Node
    nodes: list[Node] = field(default_factory=list)
    own: list[int] = field(default_factory=list)
    tail: Node | None = None

    @property
    def pages(self) -> list[int]:
        """All pages in order."""
        return [node.page for node in self.nodes] + self.own

    @property
    def end(self) -> Node:
        """The node below which the private pages belong."""
        return self.nodes[-1] if self.nodes else self.root


@dataclass(frozen=True, slots=True)
class Match:
    """What the tree holds of a prompt: whole pages, then the first `common` tokens of one more.

    `waiting` tokens beyond that are being computed by another request right now.
    """

    nodes: tuple[Node, ...]
    partial: Node | None = None
    common: int = 0
    waiting: int = 0

    @property
    def tokens(self) -> int:
        """Tokens that need not be computed."""
        return PAGE_TOKENS * len(self.nodes) + self.common


class Pages:
    """All KV pages of a machine."""

    def __init__(self, count: int, *, share: bool = True) -> None:
        """`count` pages; without `share` nothing is found in the tree, and nothing put there."""
        self.count = count
        self._share = share
        self._free = list(range(count - 1, -1, -1))  # low numbers first: memory grows as needed
        self._roots: dict[Hashable, Node] = {}
        self._idle: OrderedDict[Node, None] = OrderedDict()  # unused leaves, oldest first
        self._unused = 0  # nodes without users
        self.evicted = 0

    @property
    def available(self) -> int:
        """Pages that can be had: free ones and those in the tree that nobody uses."""
        return len(self._free) + self._unused

    @property
    def cached(self) -> int:
        """Pages in the tree that nobody uses."""
        return self._unused

    def find(self, world: Hashable, tokens: Sequence[int], most: int) -> Match:
        """The longest beginning of `tokens` in the tree, at most `most` tokens of it."""
        root = self._roots.get(world)
        if root is None or not self._share:
            return Match(())
        nodes: list[Node] = []
        node, at = root, 0
        while at + PAGE_TOKENS <= most:
            child = node.children.get(tuple(tokens[at : at + PAGE_TOKENS]))
            if child is None or child.pending:
                break
            nodes.append(child)
            node, at = child, at + PAGE_TOKENS
        partial, common = self._longest(node, tokens[at : min(at + PAGE_TOKENS, most)])
        return Match(tuple(nodes), partial, common, _pending(node, tokens, at, most) - at - common)

    def open(self, world: Hashable, match: Match, count: int) -> Holding | None:
        """Hold the whole pages of `match` and `count` private pages more; None if too few are left.

        A partial page of the match is there until the next call: copy it now, to the first private
        one.
        """
        holding = Holding(self._root(world))
        holding.root.users += 1
        for node in match.nodes:
            self._use(node)
            holding.nodes.append(node)
        if match.partial is not None:
            self._use(match.partial)
        enough = self.add(holding, count)
        if match.partial is not None:
            self._leave(match.partial)
        if enough:
            return holding
        self.release(holding)
        return None

    def add(self, holding: Holding, count: int) -> bool:
        """Give `holding` so many more private pages; False, and nothing changes, if too few are."""
        if count > self.available:
            return False
        for _ in range(count):
            holding.own.append(self._new_page())
        return True

    def announce(self, holding: Holding, tokens: Sequence[int]) -> None:
        """Let others know that the private pages will hold `tokens`, the rest of a prompt.

        Whole pages become pending nodes; what remains becomes a pending tail. Where the tree has
        the page already (it may not be used for this request), nothing is announced.
        """
        if not self._share:
            return
        at = 0
        while len(tokens) - at >= PAGE_TOKENS:
            key = tuple(tokens[at : at + PAGE_TOKENS])
            if key in holding.end.children:
                return
            node = Node(holding.end, key, holding.own.pop(0), holding)
            node.pending = True
            node.users = 1
            holding.end.attach(node)
            holding.nodes.append(node)
            at += PAGE_TOKENS
        self._show_tail(holding, tuple(tokens[at:]), pending=True)

    def computed(self, holding: Holding, count: int) -> None:
        """The first `count` tokens of the request stand in their pages now."""
        for node in reversed(holding.nodes[: count // PAGE_TOKENS]):
            if not node.pending:
                break
            node.pending = False
            node.owner = None
        tail = holding.tail
        if tail is not None and count >= PAGE_TOKENS * len(holding.nodes) + len(tail.tokens):
            tail.pending = False

    def fill(self, holding: Holding, tokens: tuple[int, ...]) -> int | None:
        """The first private page is full of `tokens`: put it into the tree.

        If the tree has these tokens already, that page is held instead, and its number is returned:
        the two are equal bit for bit.
        """
        if not self._share:
            return None
        self._hide_tail(holding)
        page = holding.own.pop(0)
        known = holding.end.children.get(tokens)
        if known is not None and not known.pending:
            self._use(known)
            holding.nodes.append(known)
            self._free.append(page)
            return known.page
        if known is not None:  # another one computes it too: this one stays private for good
            holding.own.insert(0, page)
            return None
        self._attach_used(holding, tokens, page)
        return None

    def release(self, holding: Holding, rest: Sequence[int] = ()) -> None:
        """Give all pages back. `rest` are tokens that stand in the first private page.

        Finished pages stay in the tree for others until their room is needed.
        """
        self._hide_tail(holding)
        self._drop_pending(holding)
        if rest and holding.own and self._share:
            self._keep_rest(holding, tuple(rest[:PAGE_TOKENS]))
        for node in reversed(holding.nodes):
            self._leave(node)
        self._free.extend(reversed(holding.own))
        holding.nodes.clear()
        holding.own.clear()
        holding.root.users -= 1

    def forget(self) -> None:
        """Throw every page out of the tree that nobody uses."""
        while self._idle:
            self._evict()

    def worlds(self) -> Iterator[tuple[Hashable, Node]]:
        """The roots of the tree."""
        yield from self._roots.items()

    def check_integrity(self, holdings: Iterable[Holding]) -> None:
        """Prove that no page is lost or shared wrongly; AssertionError says what is wrong."""
        holdings = list(holdings)
        held: dict[Node, int] = {}
        for holding in holdings:
            for node in holding.nodes:
                held[node] = held.get(node, 0) + 1
        nodes = [node for root in self._roots.values() for node in _below(root)]
        in_tree = [node.page for node in nodes if node.owner is None or node.is_full]
        private = [page for holding in holdings for page in holding.own]
        everywhere = sorted(in_tree + private + self._free)
        assert everywhere == list(range(self.count)), "a page is lost or has two places"
        assert set(held) <= set(nodes), "a request holds a node that left the tree"
        for node in nodes:
            self._check_node(node, held.get(node, 0))
        unused = [node for node in nodes if _is_unused(node)]
        assert len(unused) == self._unused, "the count of unused nodes is wrong"
        leaves = {node for node in unused if not node.children}
        assert leaves == set(self._idle), "an unused leaf cannot be found, or a used one can"
        for holding in holdings:
            _check_chain(holding)

    def _check_node(self, node: Node, holders: int) -> None:
        assert node.users == holders, f"page {node.page} has {holders} users, not {node.users}"
        assert not node.children or node.is_full, "a page that is not full has children"
        assert node.parent is not None
        assert node.parent.children[node.tokens] is node, "a node is not where its parent has it"
        if node.users == 0 and node.owner is None:
            assert all(c.users == 0 for c in node.children.values()), "a used page below unused"

    def _root(self, world: Hashable) -> Node:
        if world not in self._roots:
            self._forget_empty_roots()
            self._roots[world] = Node(None, (), 0, None)
        return self._roots[world]

    def _forget_empty_roots(self) -> None:
        """Worlds come and go with their tenants: an empty root that nobody holds is dropped."""
        for world in list(islice(self._roots, 2)):
            root = self._roots.pop(world)
            if root.children or root.users:
                self._roots[world] = root

    def _longest(self, node: Node, wanted: Sequence[int]) -> tuple[Node | None, int]:
        """The child with the longest common beginning, and its length."""
        best, most = None, 0
        if wanted:
            for child in islice(reversed(node.firsts.get(wanted[0], ())), MOST_COMPARED):
                common = 0 if child.pending else _common(child.tokens, wanted)
                if common > most:
                    best, most = child, common
        return best, most

    def _show_tail(self, holding: Holding, tokens: tuple[int, ...], *, pending: bool) -> None:
        if tokens and tokens not in holding.end.children:
            holding.tail = Node(holding.end, tokens, holding.own[0], holding)
            holding.tail.pending = pending
            holding.end.attach(holding.tail)

    def _hide_tail(self, holding: Holding) -> None:
        if holding.tail is not None:
            holding.end.detach(holding.tail)
            holding.tail = None

    def _drop_pending(self, holding: Holding) -> None:
        """Take pages out of the tree that were announced and never computed."""
        while holding.nodes and holding.nodes[-1].pending:
            node = holding.nodes.pop()
            assert node.parent is not None
            node.parent.detach(node)
            holding.own.insert(0, node.page)

    def _keep_rest(self, holding: Holding, tokens: tuple[int, ...]) -> None:
        """Leave a page that is not full in the tree, for a request that goes on from here."""
        known = holding.end.children.get(tokens)
        if known is not None:
            return
        self._attach_used(holding, tokens, holding.own.pop(0))

    def _attach_used(self, holding: Holding, tokens: tuple[int, ...], page: int) -> None:
        node = Node(holding.end, tokens, page, None)
        node.users = 1
        self._idle.pop(holding.end, None)
        holding.end.attach(node)
        holding.nodes.append(node)

    def _use(self, node: Node) -> None:
        if _is_unused(node):
            self._unused -= 1
            self._idle.pop(node, None)
        node.users += 1

    def _leave(self, node: Node) -> None:
        node.users -= 1
        if node.users == 0 and node.owner is None:
            self._unused += 1
            if not node.children:
                self._idle[node] = None

    def _new_page(self) -> int:
        if not self._free:
            self._evict()
        return self._free.pop()

    def _evict(self) -> None:
        node, _ = self._idle.popitem(last=False)
        parent = node.parent
        assert parent is not None
        parent.detach(node)
        self._unused -= 1
        self.evicted += 1
        self._free.append(node.page)
        if not parent.children and parent.parent is not None and parent.users == 0:
            # It is no younger than the leaf that just went, so it is the next to go.
            self._idle[parent] = None
            self._idle.move_to_end(parent, last=False)


def _pending(node: Node, tokens: Sequence[int], at: int, most: int) -> int:
    """How far `tokens` are in the tree if what is being computed below `node` counts too."""
    while at + PAGE_TOKENS <= most:
        child = node.children.get(tuple(tokens[at : at + PAGE_TOKENS]))
        if child is None:
            break
        node, at = child, at + PAGE_TOKENS
    wanted = tokens[at : min(at + PAGE_TOKENS, most)]
    if not wanted:
        return at
    nearest = islice(reversed(node.firsts.get(wanted[0], ())), MOST_COMPARED)
    return at + max((_common(child.tokens, wanted) for child in nearest), default=0)


def _common(ours: Sequence[int], theirs: Sequence[int]) -> int:
    count = 0
    for one, other in zip(ours, theirs, strict=False):
        if one != other:
            break
        count += 1
    return count


def _below(node: Node) -> Iterator[Node]:
    stack = list(node.children.values())
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())


def _is_unused(node: Node) -> bool:
    return node.users == 0 and node.owner is None


def _check_chain(holding: Holding) -> None:
    parent = holding.root
    for node in holding.nodes:
        assert node.parent is parent, "a request's pages are no path of the tree"
        parent = node
    if holding.tail is not None:
        assert holding.tail.page == holding.own[0], "a tail shows another page than the first own"
