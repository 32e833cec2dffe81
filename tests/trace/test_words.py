from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overclock.trace.words import printable


@given(st.text(), st.integers(1, 50))
def test_nothing_steers_a_terminal(text: str, most: int) -> None:
    shown = printable(text, most)
    assert shown.isprintable()
    assert len(shown) == min(most, len(text))


def test_words_stay_what_they_are() -> None:
    assert printable("Wörter und 文字") == "Wörter und 文字"
    assert printable("abc\x1b[31m\n", 200) == "abc�[31m�"
    assert printable("abcdef", 4) == "abc…"
