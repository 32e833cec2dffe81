"""KV pages against a model that knows what stands in each of them."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from overclock.clock.pages import Holding, Match, Node, Pages
from overclock.program.program import PAGE_TOKENS

TEXTS = [
    [text * 1000 + (at if at < 40 * text + 40 else 7) for at in range(200)] for text in (0, 1, 2)
]


class Held:
    """A request as the model sees it: `prompt` tokens were announced, `done` stand in its pages."""

    def __init__(self, holding: Holding, tokens: list[int], done: int, world: Hashable) -> None:
        self.holding = holding
        self.tokens = tokens
        self.done = done
        self.world = world


class PagesModel(RuleBasedStateMachine):
    """Requests come, share, copy, write and go; `paper` is what stands in a machine's pages."""

    @initialize(count=st.integers(1, 14), share=st.integers(0, 5))
    def open_pages(self, count: int, share: int) -> None:
        self.pages = Pages(count, share=share > 0)
        self.share = share > 0
        self.paper: list[list[int]] = [[] for _ in range(count)]
        self.worlds: list[Hashable] = [None] * count
        self.held: list[Held] = []

    @rule(
        text=st.sampled_from(TEXTS),
        size=st.integers(0, 180),
        tail=st.lists(st.integers(0, 2), min_size=1, max_size=3),
        world=st.sampled_from(["us", "them"]),
        reuse=st.integers(0, 5),
    )
    def open(
        self, text: list[int], size: int, tail: list[int], world: Hashable, reuse: int
    ) -> None:
        tokens = text[:size] + tail
        most = len(tokens) - 1 if reuse else 0
        match = self.pages.find(world, tokens, most)
        self._check_match(match, tokens, most, world)
        count = -(-len(tokens) // PAGE_TOKENS) - len(match.nodes)
        before = self.pages.available
        holding = self.pages.open(world, match, count)
        if holding is None:
            # The whole pages of the match are not for giving away, nor is the one to be copied.
            assert before < count + len(match.nodes) + (match.partial is not None)
            assert self.pages.available == before
            return
        if match.partial is not None:
            self.paper[holding.own[0]] = self.paper[match.partial.page][: match.common]
        for page in holding.own[match.partial is not None :]:
            self.paper[page] = []
        for page in holding.own:
            self.worlds[page] = world
        assert len(holding.pages) == -(-len(tokens) // PAGE_TOKENS)
        self.pages.announce(holding, tokens[PAGE_TOKENS * len(holding.nodes) :])
        self.held.append(Held(holding, tokens, match.tokens, world))

    @rule(data=st.data(), count=st.integers(1, 70))
    @precondition(lambda self: self.held)
    def compute(self, data: st.DataObject, count: int) -> None:
        """Some of the tokens that are left, or one new one behind them."""
        held = data.draw(st.sampled_from(self.held))
        if held.done == len(held.tokens):
            if held.done == PAGE_TOKENS * len(held.holding.pages):
                fresh = self.pages.add(held.holding, 1)
                if not fresh:
                    assert self.pages.available == 0
                    return
                self.paper[held.holding.own[-1]] = []
                self.worlds[held.holding.own[-1]] = held.world
            held.tokens.append(data.draw(st.integers(0, 2)))
        stop = min(len(held.tokens), held.done + count)
        for at in range(held.done, stop):
            self._write(held, at)
        held.done = stop
        self._settle(held)

    @rule(data=st.data())
    @precondition(lambda self: self.held)
    def release(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.held))
        self.held.remove(held)
        start = PAGE_TOKENS * len(held.holding.nodes)
        self.pages.release(held.holding, held.tokens[start : min(held.done, start + PAGE_TOKENS)])

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 3)) == 0:
            self.pages.forget()
            assert self.pages.cached == 0

    @invariant()
    def is_whole(self) -> None:
        if not hasattr(self, "pages"):
            return
        self.pages.check_integrity([each.holding for each in self.held])
        pages = {page for each in self.held for page in each.holding.pages}
        assert self.pages.available == self.pages.count - len(pages)
        for each in self.held:
            text = [token for page in each.holding.pages for token in self.paper[page]]
            assert text[: each.done] == each.tokens[: each.done]
            assert {self.worlds[page] for page in each.holding.pages} <= {each.world}

    def teardown(self) -> None:
        for each in getattr(self, "held", []):
            self.pages.release(each.holding)
        if hasattr(self, "pages"):
            self.pages.check_integrity([])
            assert self.pages.available == self.pages.count

    def _check_match(self, match: Match, tokens: list[int], most: int, world: Hashable) -> None:
        assert match.tokens + match.waiting <= max(most, 0)
        assert match.waiting >= 0
        for number, node in enumerate(match.nodes):
            part = tokens[PAGE_TOKENS * number : PAGE_TOKENS * (number + 1)]
            assert not node.pending
            assert self.paper[node.page] == part
            assert self.worlds[node.page] == world
        assert (match.partial is None) == (match.common == 0)
        if match.partial is not None:
            start = PAGE_TOKENS * len(match.nodes)
            common = self.paper[match.partial.page][: match.common]
            assert common == tokens[start : start + match.common]
            assert self.worlds[match.partial.page] == world
        if not self.share:
            assert match == Match(())

    def _write(self, held: Held, at: int) -> None:
        page = held.holding.pages[at // PAGE_TOKENS]
        for other in self.held:
            used = other.holding.pages[: -(-other.done // PAGE_TOKENS)]
            assert other is held or page not in used, "a page is written that another one reads"
        place = at % PAGE_TOKENS
        self.paper[page][place:] = [held.tokens[at]]
        assert len(self.paper[page]) == place + 1

    def _settle(self, held: Held) -> None:
        """As the roster does."""
        holding = held.holding
        self.pages.computed(holding, held.done)
        while holding.own and held.done >= PAGE_TOKENS * (len(holding.nodes) + 1):
            at = len(holding.nodes)
            tokens = tuple(held.tokens[PAGE_TOKENS * at : PAGE_TOKENS * (at + 1)])
            shared = self.pages.fill(holding, tokens)
            if shared is not None:
                assert self.paper[shared] == list(tokens)
            if len(holding.nodes) == at:
                return


TestPagesModel = PagesModel.TestCase
TestPagesModel.settings = settings(max_examples=100, stateful_step_count=50)


def run(
    pages: Pages, tokens: list[int], world: Hashable = None, others: list[Holding] | None = None
) -> Match:
    """A request that comes, is computed, and goes; what was there for it."""
    match = pages.find(world, tokens, len(tokens) - 1)
    holding = pages.open(world, match, -(-len(tokens) // PAGE_TOKENS) - len(match.nodes))
    assert holding is not None
    pages.announce(holding, tokens[PAGE_TOKENS * len(holding.nodes) :])
    pages.computed(holding, len(tokens))
    while len(tokens) >= PAGE_TOKENS * (len(holding.nodes) + 1):
        at = PAGE_TOKENS * len(holding.nodes)
        pages.fill(holding, tuple(tokens[at : at + PAGE_TOKENS]))
        if len(holding.nodes) == at // PAGE_TOKENS:
            break
    pages.release(holding, tokens[PAGE_TOKENS * len(holding.nodes) :])
    pages.check_integrity(others or [])
    return match


def text(number: int, pages: int) -> list[int]:
    return [1000 * number + at for at in range(PAGE_TOKENS * pages)]


def kept(pages: Pages, tokens: list[int], world: Hashable = None) -> int:
    return pages.find(world, tokens, len(tokens)).tokens


@given(size=st.integers(1, 200), more=st.integers(1, 40))
def test_all_but_the_last_token_is_found_again(size: int, more: int) -> None:
    pages = Pages(20)
    tokens = (text(1, 7) + text(2, 1))[:size]
    assert run(pages, tokens).tokens == 0
    assert run(pages, tokens).tokens == size - 1
    assert run(pages, [*tokens, *text(3, 2)[:more]]).tokens == size


@given(size=st.integers(1, 200), common=st.integers(0, 199))
def test_the_common_beginning_is_found_to_the_token(size: int, common: int) -> None:
    pages = Pages(20)
    first = text(1, 7)[:size]
    run(pages, first)
    second = [*first[:common], 7, 7, 7]
    assert run(pages, second).tokens == min(common, size)


def test_the_least_recently_used_page_goes_first_and_leaves_before_their_parents() -> None:
    pages = Pages(6)
    for number in (1, 2, 3):
        run(pages, text(number, 2))
    assert pages.available == pages.cached == 6
    run(pages, text(1, 2))  # now 2 is the oldest
    run(pages, text(4, 1))
    assert [kept(pages, text(number, 2)) for number in (1, 2, 3)] == [64, 32, 64]
    run(pages, text(5, 1))
    assert [kept(pages, text(number, 2)) for number in (1, 2, 3)] == [64, 0, 64]
    run(pages, text(6, 3))
    assert [kept(pages, text(number, 2)) for number in (1, 2, 3)] == [32, 0, 0]
    assert kept(pages, text(4, 1)) == kept(pages, text(5, 1)) == 32
    assert pages.evicted == 5


def test_pages_in_use_stay() -> None:
    pages = Pages(4)
    run(pages, text(1, 2))
    holding = pages.open(None, pages.find(None, text(1, 2), 64), 0)
    assert holding is not None
    assert pages.available == 2
    assert pages.open(None, Match(()), 3) is None
    run(pages, text(2, 2), others=[holding])
    assert not pages.add(holding, 3)
    assert pages.available == 2
    assert pages.add(holding, 2)
    assert kept(pages, text(2, 2)) == 0
    pages.release(holding)
    assert kept(pages, text(1, 2)) == 64
    assert pages.available == 4


def test_a_page_to_be_copied_is_not_given_away_for_the_copy() -> None:
    pages = Pages(2)
    run(pages, text(1, 1))
    run(pages, text(2, 1))
    tokens = [*text(1, 1)[:20], 7]
    match = pages.find(None, tokens, 20)
    assert match.partial is not None
    holding = pages.open(None, match, 1)
    assert holding is not None
    assert holding.own != [match.partial.page]
    assert kept(pages, text(1, 1)) == 32
    pages.release(holding)
    full = pages.open(None, pages.find(None, tokens, 20), 2)
    assert full is None  # there are two pages, and one of them is to be read
    assert pages.available == 2


def test_worlds_share_nothing() -> None:
    pages = Pages(20)
    tokens = text(1, 2)[:50]
    run(pages, tokens, "us")
    assert kept(pages, tokens, "them") == kept(pages, tokens) == 0
    assert run(pages, tokens, "them").tokens == 0
    assert kept(pages, tokens, "us") == kept(pages, tokens, "them") == 50


def test_what_is_being_computed_is_waited_for_and_lost_with_its_request() -> None:
    pages = Pages(20)
    tokens = text(1, 3)[:80]
    holding = pages.open(None, pages.find(None, tokens, 79), 3)
    assert holding is not None
    pages.announce(holding, tokens)
    match = pages.find(None, tokens, 79)
    assert (match.tokens, match.waiting) == (0, 79)
    pages.computed(holding, 40)
    match = pages.find(None, tokens, 79)
    assert (match.tokens, match.waiting) == (32, 47)
    assert pages.find(None, [*tokens[:70], 7], 70).waiting == 38
    pages.release(holding)
    pages.check_integrity([])
    match = pages.find(None, tokens, 79)
    assert (match.tokens, match.waiting) == (32, 0)


def test_two_that_computed_the_same_page_end_up_with_one() -> None:
    pages = Pages(4)
    tokens = text(1, 1)
    one, two = pages.open(None, Match(()), 1), pages.open(None, Match(()), 1)
    assert one is not None
    assert two is not None
    assert pages.fill(one, tuple(tokens)) is None
    assert pages.fill(two, tuple(tokens)) == one.pages[0]
    assert two.pages == one.pages
    pages.check_integrity([one, two])
    pages.release(one)
    assert pages.available == 3
    pages.release(two)
    assert pages.available == 4


def test_nothing_is_kept_without_sharing() -> None:
    pages = Pages(4, share=False)
    assert run(pages, text(1, 2)).tokens == run(pages, text(1, 2)).tokens == 0
    assert pages.cached == 0


def test_worlds_that_nobody_uses_are_forgotten() -> None:
    pages = Pages(2)
    for tenant in range(1000):
        run(pages, text(tenant, 1), tenant)
    assert len(list(pages.worlds())) < 10


def test_the_tree_does_not_grow_with_what_passes_through() -> None:
    pages = Pages(8)
    for number in range(500):
        run(pages, [*text(0, 1), *text(number + 1, 1)[: number % 31 + 1]])
    nodes = [node for _, root in pages.worlds() for node in _all(root)]
    assert len(nodes) <= 9
    assert all(len(node.firsts) <= len(node.children) for node in nodes)


def _all(node: Node) -> list[Node]:
    return [node, *(below for child in node.children.values() for below in _all(child))]
