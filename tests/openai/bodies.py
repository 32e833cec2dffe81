"""Bodies that use every field, and what can be done to them."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"place": {"enum": ["Rome", "Oslo"]}},
            "required": ["place"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}

SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 7,
    "min_p": 0.1,
    "typical_p": 0.9,
    "repetition_penalty": 1.1,
    "presence_penalty": -0.5,
    "frequency_penalty": 1,
    "dry_multiplier": 0.8,
    "dry_base": 1.5,
    "dry_allowed_length": 3,
    "dry_range": 100,
    "dry_breakers": [1, 2],
    "logit_bias": {"5": -100, "7": 1.5},
    "min_tokens": 1,
    "seed": -1,
    "stop": ["\n", "END"],
    "stop_token_ids": [3],
    "ignore_eos": True,
    "priority": 1,
    "deadline_s": 60,
    "speculation": "off",
    "salt": "tenant",
    "n": 2,
    "model": "any",
    "user": "somebody",
    "stream": False,
}

CHAT: dict[str, Any] = {
    **SAMPLING,
    "messages": [
        {"role": "developer", "content": "Be brief.", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": "Where is "}]},
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"place": "Rome"}'},
                }
            ],
        },
        {"role": "tool", "content": "sunny", "tool_call_id": "call_1"},
    ],
    "max_completion_tokens": 9,
    "logprobs": True,
    "top_logprobs": 3,
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "chat_template_kwargs": {"enable_thinking": False},
    "store": False,
    "metadata": {"a": "b"},
    "service_tier": "auto",
    "modalities": ["text"],
}

TEXT: dict[str, Any] = {
    **SAMPLING,
    "prompt": ["hello", "you"],
    "max_tokens": 5,
    "echo": True,
    "logprobs": 2,
    "best_of": 2,
    "suffix": "",
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "a", "strict": True, "schema": {"type": "object"}},
    },
}

EMBEDDING: dict[str, Any] = {
    "input": ["hello", "you"],
    "model": "any",
    "dimensions": 4,
    "encoding_format": "base64",
    "user": "somebody",
}

BODIES = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": TEXT,
    "/v1/embeddings": EMBEDDING,
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 1 << 63, 1 << 64, 10**400])
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.sampled_from(["none", "text", "function", "user", "weather", "json_schema", "{}"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, body: dict[str, Any]) -> dict[str, Any]:
    """A body with another value somewhere, or with a field more or less."""
    changed = deepcopy(body)
    place: Any = changed
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from([*keys, "more"] if isinstance(place, dict) else keys))
        inner = place.get(key) if isinstance(place, dict) else place[key]
        if isinstance(inner, (dict, list)) and inner and draw(st.booleans()):
            place = inner
            continue
        if isinstance(place, dict) and key in place and draw(st.integers(0, 3)) == 0:
            del place[key]
        else:
            place[key] = draw(json_values)
        return changed
