"""Chat templates: a conversation becomes the text its model was trained on.

A template is a program from a stranger's file. It runs in Jinja's immutable sandbox, set up as
`transformers` does, with a bound on time, steps and text (`overclock.model.chat_sandbox`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from overclock.errors import InputError

if TYPE_CHECKING:
    import jinja2

    from overclock.model.chat_limits import Limits

Message = Mapping[str, object]

ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython")


class ChatTemplate:
    """A model's chat template with its BOS and EOS tokens as text."""

    def __init__(
        self, source: str, *, bos: str | None, eos: str | None, limits: Limits | None = None
    ) -> None:
        """Keep `source`; it is compiled when first used."""
        self.source = source
        self._tokens = {"bos_token": bos or "", "eos_token": eos or ""}
        self._limits = limits

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
        **variables: object,
    ) -> str:
        """The conversation as text, to be encoded with ``special=True, add_bos=False``.

        A message has a ``role`` (one of `ROLES`) and a ``content``: text, or a list of
        ``{"type": "text", "text": …}`` which is joined; whatever else it has (``tool_calls``,
        ``name`` …) the template sees as it is. `add_generation_prompt` opens the model's turn;
        `variables` are the template's own (``enable_thinking`` …).

        Raises:
            InputError: a message is malformed, or the template refuses the conversation.
            ModelError: the template is damaged, forbidden or takes too much time or space.
        """
        from overclock.model import chat_sandbox

        values = {
            **self._tokens,
            "messages": [_message(index, message) for index, message in enumerate(messages)],
            "add_generation_prompt": add_generation_prompt,
            "tools": None if tools is None else list(tools),
            **variables,
        }
        return chat_sandbox.render(self._template, values, self._limits)

    @cached_property
    def _template(self) -> jinja2.Template:
        from overclock.model import chat_sandbox

        return chat_sandbox.compile(self.source, self._limits)


def _message(index: int, message: object) -> dict[str, object]:
    if not isinstance(message, Mapping):
        raise InputError(f"message {index} is {message!r}; it must have a role and a content")
    if message.get("role") not in ROLES:
        raise InputError(
            f"message {index} has the role {message.get('role')!r}; "
            f"it must be one of {', '.join(ROLES)}"
        )
    return {**message, "content": _content(index, message)}


def _content(index: int, message: Message) -> str | None:
    content = message.get("content")
    if isinstance(content, str) or (content is None and message.get("tool_calls")):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return "".join(_part(index, part) for part in content)
    raise InputError(
        f"message {index} has the content {content!r}; it must be text or a list of text parts"
    )


def _part(index: int, part: object) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text":
        text = part.get("text")
        if isinstance(text, str):
            return text
    raise InputError(
        f"message {index} has the part {part!r}; this model reads only parts like "
        '{"type": "text", "text": "…"}'
    )
