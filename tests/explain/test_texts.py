from __future__ import annotations

from overclock.explain import texts
from overclock.explain.texts import Token
from tests.explain import rigs


def spelled(*parts: str) -> list[Token]:
    """Tokens of these texts; those in angle brackets are special."""
    return [Token(n, part, part.startswith("<")) for n, part in enumerate(parts)]


def test_tokens_together_are_the_text() -> None:
    for name in ("llama", "roberta-token", "llama-gguf"):
        tokenizer = rigs.model(name).tokenizer
        ids = tokenizer.encode("the quick 你好 fox")
        found = texts.tokens(tokenizer, ids)
        assert [each.id for each in found] == ids
        inside = "".join(each.text for each in found if not each.is_special)
        assert inside.strip() == "the quick 你好 fox"
    assert texts.tokens(tokenizer, []) == ()


def test_the_frame_is_special_and_a_mask_is_not() -> None:
    tokenizer = rigs.model("bert").tokenizer
    found = texts.tokens(tokenizer, tokenizer.encode("the [MASK] fox", special=True))
    assert [each.is_special for each in found] == [True, *[False] * (len(found) - 2), True]
    assert "[MASK]" in "".join(each.text for each in found)


def test_groups_are_tokens_or_words() -> None:
    found = spelled("<s>", "Une", "qual", " words", "\n", "here", "", " 你", "<e>", "so ", "on")
    assert texts.groups(found, words=False) == [(n,) for n in (1, 2, 3, 4, 5, 6, 7, 9, 10)]
    assert texts.groups(found, words=True) == [(1, 2), (3,), (4, 5, 6), (7,), (9,), (10,)]


def test_words_of_a_wordpiece_tokenizer() -> None:
    tokenizer = rigs.model("bert").tokenizer
    found = texts.tokens(tokenizer, tokenizer.encode("hello the playing"))
    groups = texts.groups(found, words=True)
    words = ["".join(found[place].text for place in group).strip() for group in groups]
    assert words == ["hello", "the", "playing"]
