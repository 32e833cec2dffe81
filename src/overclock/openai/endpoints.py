"""The endpoints: which address takes which body."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from overclock.openai.chat import ChatRequest, parse_chat
from overclock.openai.completions import TextRequest, parse_text
from overclock.openai.embeddings import EmbeddingRequest, parse_embedding
from overclock.openai.errors import NOT_FOUND, ApiError
from overclock.openai.fields import shown

Body: TypeAlias = ChatRequest | TextRequest | EmbeddingRequest

ENDPOINTS: dict[str, Callable[[object], Body]] = {
    "/v1/chat/completions": parse_chat,
    "/v1/completions": parse_text,
    "/v1/embeddings": parse_embedding,
}


def parse(url: object, body: object) -> Body:
    """The request of a body sent to `url`. Raises ApiError for what is wrong with either."""
    parser = ENDPOINTS.get(url) if isinstance(url, str) else None
    if parser is None:
        raise ApiError(
            f"the url is {shown(url)}; it must be one of {', '.join(ENDPOINTS)}",
            status=NOT_FOUND,
            param="url",
            code="invalid_url",
        )
    return parser(body)
