"""Batch files for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHAT, TEXT, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"


def line(custom_id: str, url: str = TEXT, **body: object) -> dict[str, object]:
    """A request; of few tokens, the likeliest, unless `body` says otherwise."""
    defaults: dict[str, dict[str, object]] = {
        CHAT: {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4, "temperature": 0},
        TEXT: {"prompt": "hello", "max_tokens": 4, "temperature": 0},
        EMBED: {"input": "hello"},
    }
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": url,
        "body": {**defaults[url], "model": "any", **body},
    }


def write(path: Path, lines: Iterable[object]) -> Path:
    """A file of lines; what is text already is written as it is."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in lines]
    path.write_text("".join(f"{text}\n" for text in texts), errors="surrogateescape")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of answers."""
    return [json.loads(text) for text in path.read_bytes().split(b"\n") if text]


def ids(path: Path) -> list[str]:
    """The custom_ids of a file of answers, in order."""
    return [each["custom_id"] for each in read(path)]
