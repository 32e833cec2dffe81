from __future__ import annotations

import weakref
from functools import partial

import pytest

from overclock.model.later import Later


class Source:
    """What a value is made from."""


def test_a_value_is_made_once_and_its_source_let_go() -> None:
    made: list[int] = []
    source = Source()
    gone = weakref.ref(source)

    def make(_: Source) -> int:
        made.append(len(made))
        return 7

    later = Later(partial(make, source))
    del source
    assert made == []
    assert [later.get(), later.get()] == [7, 7]
    assert made == [0]
    assert gone() is None


def test_what_cannot_be_made_is_said_every_time() -> None:
    later: Later[int] = Later(lambda: 1 // 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            later.get()
