"""Structured output with SmolLM2's tokenizer."""

from __future__ import annotations

import json
import re
from functools import cache

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from overclock.clock import grammar
from overclock.clock.grammar import Grammar, Grammars
from overclock.clock.grammar_tokens import Tokens
from overclock.model.tokenizer import Tokenizer
from tests.clock.grammar_walks import drawn, shown
from tests.clock.test_grammar_json import SCHEMAS
from tests.real.models import real

pytestmark = pytest.mark.real


def known() -> Tokenizer:
    return real("smollm2").tokenizer


@cache
def grammars() -> Grammars:
    return Grammars(known(), real("smollm2").config.vocabulary)


def walk(asked: Grammar, seed: int) -> str:
    return shown(known(), drawn(grammars().start(asked), known(), seed))


def test_answers_satisfy_a_hundred_schemas() -> None:
    for seed, schema in enumerate(SCHEMAS.values()):
        value = json.loads(walk(grammar.json_schema(schema), seed))
        Draft202012Validator(schema).validate(value)


def test_answers_match_expressions_and_choices() -> None:
    assert re.fullmatch("[a-z]{3,9}( [0-9]+)*", walk(grammar.regex("[a-z]{3,9}( [0-9]+)*"), 0))
    assert walk(grammar.choice(["Köln", "北京"]), 0) in ("Köln", "北京")


def test_tokens_spell_what_the_tokenizer_decodes() -> None:
    table = Tokens(known(), real("smollm2").config.vocabulary)
    for text in ("def f(x):\n    return {'a': 1}", "Grüße, 北京 🙂", " \n\t{}[]"):
        assert b"".join(table.spelled[id] for id in table.encode(text)) == text.encode()
        assert table.encode(text) == known().encode(text, add_bos=False)
    assert not table.drops_first_space


def test_masks_cover_the_models_ids() -> None:
    constraint = grammars().start(grammar.json_object())
    assert constraint.mask().shape == (real("smollm2").config.vocabulary // 32,)
    assert np.any(constraint.mask())
