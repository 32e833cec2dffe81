"""Regular expressions, choices, Lark grammars, and the laws of masks for all of them."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overclock.clock import grammar, grammar_constraint
from overclock.clock.grammar import Grammar, Grammars
from overclock.errors import InputError
from overclock.model.special_tokens import SpecialTokens
from overclock.model.tokenizer import Tokenizer
from tests.clock.grammar_walks import FIXTURES, KINDS, allowed, grammars, shown, tokenizer, walk
from tests.model.byte_level import train_byte_level

kinds = pytest.mark.parametrize("kind", KINDS)

PATTERNS = [
    "[ab]{2,4}",
    "(yes|no|maybe)!?",
    "^[A-Z][a-z]{1,5}$",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    r"( [a-z]+){1,3}\.",
    r" ?x ?",
    "/[/]#",
    'a"b\\\\c',
    "[äöü北京🙂]{1,3}",
    r"([^\s.]{1,4}[ \n]){0,2}end",
    "a?",
]

ARITHMETIC = """
start: sum
sum: product (("+" | "-") product)*
product: atom ("*" atom)*
atom: NUMBER | "(" sum ")"
NUMBER: /[1-9][0-9]{0,3}/
"""

GRAMMARS = {
    "schema": grammar.json_schema(
        {
            "type": "object",
            "properties": {"name": {"enum": ["alpha", "beta"]}, "age": {"type": "integer"}},
            "required": ["name", "age"],
        }
    ),
    "object": grammar.json_object(),
    "regex": grammar.regex(r" ?[ab]+(cd|ce)?"),
    "choice": grammar.choice(["one", "one two", " three", "é"]),
    "lark": grammar.lark(ARITHMETIC),
    "any text": grammar.regex(r"(.|\n)*"),
}
every = pytest.mark.parametrize("asked", GRAMMARS.values(), ids=GRAMMARS.keys())


@kinds
@pytest.mark.parametrize("pattern", PATTERNS)
def test_answers_match_their_expression(kind: str, pattern: str) -> None:
    for seed in range(5):
        text = shown(tokenizer(kind), walk(kind, grammar.regex(pattern), seed))
        assert re.fullmatch(pattern, text)


@kinds
def test_answers_are_one_of_the_choices_and_each_can_come(kind: str) -> None:
    options = ["a", "ab", "abc", " b", "  c", "b ", "Köln", '"\\\n', "🙂"]
    asked = grammar.choice(options)
    found = {shown(tokenizer(kind), walk(kind, asked, seed)) for seed in range(200)}
    assert found == set(options)


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5))
def test_any_texts_can_be_choices(options: list[str]) -> None:
    text = shown(tokenizer("fixture"), walk("fixture", grammar.choice(options), 0))
    assert text in options


@kinds
def test_sums_can_be_computed(kind: str) -> None:
    for seed in range(10):
        text = shown(tokenizer(kind), walk(kind, grammar.lark(ARITHMETIC), seed))
        names = {type(node).__name__ for node in ast.walk(ast.parse(text, mode="eval"))}
        assert names <= {"Expression", "BinOp", "Constant", "Add", "Sub", "Mult"}


@kinds
def test_objects_are_objects(kind: str) -> None:
    text = shown(tokenizer(kind), walk(kind, grammar.json_object(), 1))
    assert isinstance(json.loads(text), dict)


# laws


@every
@kinds
@given(data=st.data())
@settings(max_examples=15)
def test_any_allowed_token_can_be_pushed(kind: str, asked: Grammar, data: st.DataObject) -> None:
    known = tokenizer(kind)
    constraint = grammars(kind).start(asked)
    for _ in range(data.draw(st.integers(1, 30))):
        ids = allowed(constraint)
        assert ids
        assert max(ids) < known.vocabulary
        assert known.special_ids.intersection(ids) <= known.eos_ids
        constraint.push(data.draw(st.sampled_from(ids)))
        if constraint.finished:
            break


@every
@kinds
@given(data=st.data())
@settings(max_examples=15)
def test_what_may_come_depends_on_the_tokens_alone(
    kind: str, asked: Grammar, data: st.DataObject
) -> None:
    plain, curious = grammars(kind).start(asked), grammars(kind, other=True).start(asked)
    for _ in range(data.draw(st.integers(1, 20))):
        if data.draw(st.booleans()):
            curious.forced()
        assert allowed(plain) == allowed(curious)
        token = data.draw(st.sampled_from(allowed(plain)))
        plain.push(token)
        curious.push(token)
        assert plain.finished == curious.finished
        if plain.finished:
            break


@every
@kinds
@given(data=st.data())
@settings(max_examples=15)
def test_forced_tokens_are_the_only_ones(kind: str, asked: Grammar, data: st.DataObject) -> None:
    constraint = grammars(kind).start(asked)
    while not constraint.finished and len(constraint._pushed) < 40:
        for token in constraint.forced():
            assert allowed(constraint) == [token]
            constraint.push(token)
        if not constraint.finished:
            constraint.push(data.draw(st.sampled_from(allowed(constraint))))


def test_a_schema_forces_its_names() -> None:
    constraint = grammars("fixture").start(
        grammar.json_schema({"x-guidance": {"whitespace_flexible": False}, "const": {"name": 1}})
    )
    assert shown(tokenizer("fixture"), constraint.forced()) == '{"name":1}'


@kinds
def test_the_text_may_end_where_it_matches_and_nowhere_else(kind: str) -> None:
    known = tokenizer(kind)
    constraint = grammars(kind).start(grammar.regex("(ab)+"))
    pushed: list[int] = []
    for _ in range(12):
        ids = allowed(constraint)
        ends = known.eos_ids.intersection(ids)
        complete = re.fullmatch("(ab)+", shown(known, pushed))
        assert ends == (known.eos_ids if complete else set())
        pushed.append(next(id for id in ids if id not in known.eos_ids))
        constraint.push(pushed[-1])
        assert not constraint.finished


@kinds
def test_an_end_token_finishes_and_so_does_the_last_character(kind: str) -> None:
    known = tokenizer(kind)
    ended = grammars(kind).start(grammar.regex("a*"))
    ended.push(min(known.eos_ids))
    complete = grammars(kind).start(grammar.choice(["a"]))
    assert not complete.finished
    complete.push(max(allowed(complete)))
    for constraint in (ended, complete):
        assert constraint.finished
        assert set(allowed(constraint)) == known.eos_ids
        assert constraint.forced() == []


def test_a_model_without_an_end_finishes_too() -> None:
    endless = Tokenizer(train_byte_level("qwen2"), SpecialTokens())
    assert not endless.eos_ids
    for extra in (0, 1, 31):
        constraint = Grammars(endless, endless.vocabulary + extra).start(grammar.regex("ab?"))
        while not constraint.finished:
            ids = allowed(constraint)
            assert all(endless.token(id) in ("a", "b", "ab") for id in ids)
            constraint.push(ids[-1])


def test_several_tokens_may_end_a_text() -> None:
    config = {"eos_token": "</s>", "eos_token_id": [2, 1]}
    known = Tokenizer.from_file(FIXTURES / "llama" / "tokenizer.json", config)
    assert known.eos_ids == {1, 2}
    for end in (1, 2):
        constraint = Grammars(known).start(grammar.regex("a*"))
        assert {1, 2} <= set(allowed(constraint))
        constraint.push(end)
        assert constraint.finished
        assert allowed(constraint) == [1, 2]


def test_a_model_may_have_fewer_ids_than_its_tokenizer() -> None:
    known = tokenizer("fixture")
    few = Grammars(known, known.vocabulary - 20).start(grammar.regex(r"(.|\n)*"))
    assert few.mask().shape == ((known.vocabulary - 20 + 31) // 32,)
    assert max(allowed(few)) < known.vocabulary - 20


def test_what_is_not_allowed_is_not_pushed() -> None:
    constraint = grammars("fixture").start(grammar.choice(["a"]))
    token = tokenizer("fixture").encode("b", add_bos=False)[0]
    with pytest.raises(AssertionError):
        constraint.push(token)


def test_a_mask_cannot_be_changed_by_mistake_in_another_answer() -> None:
    first, second = (grammars("fixture").start(GRAMMARS["regex"]) for _ in range(2))
    ids = allowed(second)
    if first.mask().flags.writeable:
        first.mask()[:] = 0
    assert allowed(second) == ids


@kinds
def test_white_space_is_limited(kind: str) -> None:
    known = tokenizer(kind)
    constraint = grammars(kind).start(grammar.json_schema({"type": "array", "items": {"const": 1}}))
    constraint.push(next(id for id in allowed(constraint) if known.token(id).strip("▁") == "["))
    text = ""
    while blank := [id for id in allowed(constraint) if not known.decode([id, id]).strip()]:
        constraint.push(blank[0])
        text += known.decode([blank[0]]) or " "
        assert len(text) <= grammar.MOST_SPACE
    assert len(text) > 1


def test_a_full_automaton_fails_no_other_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers of a grammar share what was learned about it, up to a bound."""
    monkeypatch.setattr(grammar_constraint, "_MOST_STATES", 400)
    known = tokenizer("fixture")
    shared = Grammars(known)
    asked = grammar.regex("[ab]{1,100}c|[cd]{1,100}a|[ef]{1,100}a|[gh]{1,100}a")
    for letter in "bdfh" * 3:
        constraint = shared.start(asked)
        [token] = known.encode(letter, add_bos=False)
        for _ in range(100):
            constraint.push(token)
        assert not constraint.finished
        assert len(allowed(constraint)) == 1


# what cannot be asked for

BAD: list[tuple[Any, str]] = [
    (lambda: grammar.json_schema("{"), "no JSON"),
    (lambda: grammar.json_schema("[1]"), "must be an object"),
    (lambda: grammar.json_schema('"string"'), "must be an object"),
    (lambda: grammar.json_schema(3), "must be an object"),  # type: ignore[arg-type]
    (lambda: grammar.json_schema("[" * 100_000), "no JSON"),
    (lambda: grammar.json_schema({"const": {1, 2}}), "cannot be written as JSON"),
    (lambda: grammar.json_schema({"minimum": float("nan")}), "cannot be written as JSON"),
    (lambda: grammar.json_schema({"type": "strin"}), "Invalid type: strin"),
    (lambda: grammar.json_schema({"type": "object", "properties": [1]}), "properties"),
    (lambda: grammar.json_schema({"type": "object", "required": "a"}), "required"),
    (lambda: grammar.json_schema({"not": {"type": "string"}}), "lenient"),
    (lambda: grammar.json_schema({"type": "string", "format": "cheese"}), "lenient"),
    (lambda: grammar.json_schema({"type": "string", "pattern": "("}), "unclosed"),
    (lambda: grammar.json_schema({"$ref": "#/$defs/x"}), "does not exist"),
    (lambda: grammar.json_schema({"$ref": "https://example.com/x"}), "https://example.com/x"),
    (lambda: grammar.json_schema({"$ref": "#"}), "no text"),
    (lambda: grammar.json_schema({"enum": []}), "empty"),
    (lambda: grammar.json_schema({"type": "integer", "minimum": 3, "maximum": 2}), "minimum"),
    (lambda: grammar.json_schema({"x-guidance": 1}), "x-guidance"),
    (lambda: grammar.json_schema({"x-guidance": {"whitespace_flexible": 7}}), "x-guidance|invalid"),
    (lambda: grammar.regex("(a"), "unclosed group"),
    (lambda: grammar.regex("a{2,1}"), "invalid repetition"),
    (lambda: grammar.regex(r"(?=a)b"), "look-around"),
    (lambda: grammar.regex(r"(a)\1"), "backreferences"),
    (lambda: grammar.regex(r"[^\s\S]"), "no text"),
    (lambda: grammar.regex(""), "not empty"),
    (lambda: grammar.regex(None), "must be text"),  # type: ignore[arg-type]
    (lambda: grammar.regex("\ud800"), "not Unicode"),
    (lambda: grammar.lark("start: foo"), "unknown name"),
    (lambda: grammar.lark('foo: "a"'), "no start rule"),
    (lambda: grammar.lark("%%%"), "lexer error"),
    (lambda: grammar.lark("start: start"), "no text"),
    (lambda: grammar.lark("start: <|nothing|>"), "nothing"),
    (lambda: grammar.choice([]), "list of texts"),
    (lambda: grammar.choice("abc"), "list of texts"),
    (lambda: grammar.choice(["a", ""]), "not empty"),
    (lambda: grammar.choice(["a", 1]), "must be text"),  # type: ignore[list-item]
]


@pytest.mark.parametrize(("ask", "complaint"), BAD)
def test_what_cannot_be_asked_for(ask: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        grammars("fixture").check(ask())
    assert "\n" not in str(caught.value)


KEYWORDS = [
    *("type", "properties", "items", "enum", "anyOf", "minLength", "maximum", "pattern"),
    *("$ref", "required", "format", "const", "x-guidance"),
]
VALUES = st.none() | st.booleans() | st.integers() | st.sampled_from(["string", "^a", "date", "#"])


@given(
    st.recursive(
        VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYWORDS), inner)
    )
)
def test_any_schema_works_or_is_refused(schema: Any) -> None:
    try:
        constraint = grammars("fixture").start(grammar.json_schema(schema))
    except InputError:
        return
    assert allowed(constraint)


@given(st.text())
def test_any_text_is_a_grammar_or_is_refused(text: str) -> None:
    for make in (grammar.regex, grammar.lark):
        try:
            constraint = grammars("fixture").start(make(text))
        except InputError:
            continue
        assert allowed(constraint)


def test_a_text_that_the_vocabulary_cannot_spell_is_refused() -> None:
    words = Tokenizer.from_file(FIXTURES / "llama" / "tokenizer.json", {"eos_token": "</s>"})
    few = Grammars(words, 3 + 60)  # the special tokens and some letters
    assert words.encode("🙂", add_bos=False)[0] >= 3 + 60
    with pytest.raises(InputError, match="no text"):
        few.check(grammar.choice(["🙂"]))


def test_a_refused_grammar_is_refused_again_and_others_go_on() -> None:
    shared = grammars("fixture")
    for _ in range(3):
        with pytest.raises(InputError):
            shared.check(grammar.regex("("))
        shared.check(grammar.regex("a"))


def test_only_so_many_grammars_are_kept() -> None:
    shared = Grammars(tokenizer("fixture"))
    for number in range(100):
        shared.check(grammar.choice([str(number)]))
    assert len(shared._kept) == grammar._KEPT
    assert grammar.choice(["99"]) in shared._kept


def test_equal_grammars_are_one() -> None:
    assert grammar.choice(["a", "b", "a"]) == grammar.choice(("a", "b"))
    assert grammar.json_schema({"type": "null"}) == grammar.json_schema('{"type": "null"}')
    assert len({grammar.regex("a"), grammar.regex("a"), grammar.lark("a")}) == 2


@kinds
def test_masks_are_words_of_32_tokens(kind: str) -> None:
    known = tokenizer(kind)
    for vocabulary in range(known.vocabulary, known.vocabulary + 33):
        constraint = Grammars(known, vocabulary).start(grammar.regex("a*"))
        for _ in range(2):
            mask = constraint.mask()
            assert mask.dtype == np.uint32
            assert mask.shape == ((vocabulary + 31) // 32,)
            assert max(allowed(constraint)) < known.vocabulary
            constraint.push(max(set(allowed(constraint)) - known.eos_ids))


def test_endless_forced_text_is_bounded_and_can_be_written() -> None:
    known = tokenizer("fixture")
    for endless in (grammar.regex("((a{1000}){1000}){1000}"), grammar.lark('start: "x" start')):
        constraint = grammars("fixture").start(endless)
        for _ in range(50):
            [token] = allowed(constraint)
            constraint.push(token)
            assert set(known.token(token)) <= {"a", "x"}


def test_large_choices_and_enums_are_possible() -> None:
    options = [f"option {number:05}" for number in range(10_000)]
    for asked in (grammar.choice(options), grammar.json_schema({"enum": options})):
        text = shown(tokenizer("fixture"), walk("fixture", asked, 3))
        assert text.strip('"') in options
