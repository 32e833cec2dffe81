"""A hundred schemas, with answers drawn at random and judged by the jsonschema library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from overclock.clock import grammar
from tests.clock.grammar_walks import KINDS, shown, tokenizer, walk

SCHEMAS: dict[str, dict[str, Any]] = {
    line["name"]: line["schema"]
    for line in map(
        json.loads,
        (Path(__file__).parent / "schemas" / "schemas.jsonl").read_text("utf-8").splitlines(),
    )
}


def judge(schema: dict[str, Any], text: str) -> None:
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        json.loads(text)
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_answers_satisfy_their_schema(name: str) -> None:
    asked = grammar.json_schema(SCHEMAS[name])
    for seed in range(6):
        judge(SCHEMAS[name], shown(tokenizer("fixture"), walk("fixture", asked, seed)))


@pytest.mark.parametrize("kind", KINDS)
def test_so_they_do_with_every_kind_of_tokenizer(kind: str) -> None:
    for seed, schema in enumerate(SCHEMAS.values()):
        judge(schema, shown(tokenizer(kind), walk(kind, grammar.json_schema(schema), seed)))
