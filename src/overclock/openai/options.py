"""What the endpoints that write text have in common: how tokens are chosen, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast, get_args

from overclock.asking import MOST_CHOICES, Options
from overclock.clock import grammar
from overclock.clock.grammar import Grammar
from overclock.clock.request import Speculation
from overclock.clock.sampling import Sampling, SamplingOptions
from overclock.clock.stops import check_stops
from overclock.errors import InputError
from overclock.openai.errors import ApiError, blaming
from overclock.openai.fields import Fields, is_number, shown

TEMPERATURE = 1.0
"""OpenAI's default."""

MOST_BIAS = 100.0
"""OpenAI's limit: as good as a ban, or as no other choice."""

MOST_TOKENS = 1 << 31

SEEDS = 1 << 64
"""Number of different seeds; OpenAI's may be negative."""

_NUMBERS = (
    "temperature", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "dry_multiplier", "dry_base", "deadline_s",
)  # fmt: skip
_WHOLES = ("top_k", "min_tokens", "dry_allowed_length", "dry_range", "priority")
_LISTS = ("dry_breakers", "stop_token_ids")
_TEXTS = ("adapter", "salt")

# Fields of OpenAI's that mean nothing on a computer of one's own.
_NO_MEANING = (
    "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key",
    "prompt_cache_options", "prompt_cache_retention",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """What a body asks for beside its prompt.

    model: the name that it carries; count: answers to each prompt; max_tokens: None for as many as
    the context holds; options: as `LLM.generate` takes them
    """

    model: str | None
    count: int
    max_tokens: int | None
    stream: bool
    options: Options


def read(body: Fields, max_tokens: int | None, logprobs: int | None) -> Ask:
    """The common fields of `body`; `logprobs` has been read, as the endpoints write it differently.

    Raises ApiError for what is wrong.
    """
    model = body.text("model")
    count = body.whole("n", 1, MOST_CHOICES) or 1
    stream = body.flag("stream")
    options = _options(body, logprobs)
    body.ignore(*_NO_MEANING)
    body.refuse("stream_options", "logit_processors")
    return Ask(model, count, max_tokens, stream, cast("Options", options))


def _options(body: Fields, logprobs: int | None) -> dict[str, object]:
    found: dict[str, object] = {
        **{name: body.number(name) for name in _NUMBERS},
        **{name: body.whole(name, -MOST_TOKENS, MOST_TOKENS) for name in _WHOLES},
        **{name: body.wholes(name) for name in _LISTS},
        **{name: body.text(name) for name in _TEXTS},
        "stop": _stop(body),
        "seed": _seed(body),
        "logit_bias": _logit_bias(body),
        "logprobs": logprobs,
        "grammar": response_format(body),
        "speculation": body.one_of("speculation", get_args(Speculation)),
        "ignore_eos": body.flag("ignore_eos"),
    }
    options = {name: value for name, value in found.items() if value is not None}
    options.setdefault("temperature", TEMPERATURE)
    _check_sampling(options)
    return options


def _check_sampling(options: Mapping[str, object]) -> None:
    """Raise ApiError, naming the field, for a value that is out of its range."""
    known = SamplingOptions.__annotations__
    for name in known.keys() & options.keys():
        with blaming(name):
            Sampling(**{name: options[name]})  # type: ignore[arg-type]


def _stop(body: Fields) -> tuple[str, ...] | None:
    value = body.take("stop")
    if value is None:
        return None
    if not isinstance(value, (str, list)):
        raise body.wrong("stop", value, "text or a list of texts")
    with blaming("stop"):
        return check_stops(value)


def _seed(body: Fields) -> int | None:
    seed = body.whole("seed", -SEEDS // 2, SEEDS - 1)
    return None if seed is None else seed % SEEDS


def _logit_bias(body: Fields) -> dict[int, float] | None:
    value = body.take("logit_bias")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise body.wrong("logit_bias", value, "an object of token ids and numbers")
    return dict(_bias(token, bias) for token, bias in value.items())


def _bias(token: str, bias: object) -> tuple[int, float]:
    # 18 digits: what is longer is no token, and might be too long for int()
    if not (token.isascii() and token.isdigit() and len(token) <= 18):
        raise ApiError(
            f"logit_bias has {shown(token)}; it must be a token's id", param="logit_bias"
        )
    if not is_number(bias) or abs(bias) > MOST_BIAS:
        raise ApiError(
            f"logit_bias of {token} is {shown(bias)}; it must be a number from −100 to 100",
            param=f"logit_bias.{token}",
        )
    return int(token), float(bias)


# what the text must be


def response_format(body: Fields) -> Grammar | None:
    """The grammar that `response_format` asks for; None for any text.

    Beside OpenAI's text, json_object and json_schema there are ``{"type": "regex", "pattern": …}``,
    ``{"type": "lark", "grammar": …}`` and ``{"type": "choice", "options": […]}``.
    """
    form = body.object("response_format")
    if form is None:
        return None
    kind = form.one_of("type", ("text", *_FORMS))
    if kind is None:
        raise form.wrong("type", None, f"one of text, {', '.join(_FORMS)}")
    with blaming("response_format"):
        made = None if kind == "text" else _FORMS[kind](form)
    form.done()
    return made


def _json_schema(form: Fields) -> Grammar:
    inside = form.object("json_schema")
    if inside is None:
        raise form.wrong("json_schema", None, 'an object such as {"name": …, "schema": {…}}')
    inside.ignore("name", "description", "strict")  # a schema is always held to
    schema = inside.take("schema")
    inside.done()
    if not isinstance(schema, Mapping):
        raise inside.wrong("schema", schema, "a JSON schema (an object)")
    return grammar.json_schema(schema)


def _choice(form: Fields) -> Grammar:
    options = form.items("options") or []
    texts = [option for option in options if isinstance(option, str)]
    if len(texts) < len(options):
        raise InputError("the options of a choice must be texts")
    return grammar.choice(texts)


_FORMS: dict[str, Callable[[Fields], Grammar]] = {
    "json_object": lambda form: grammar.json_object(),
    "json_schema": _json_schema,
    "regex": lambda form: grammar.regex(form.needed_text("pattern")),
    "lark": lambda form: grammar.lark(form.needed_text("grammar")),
    "choice": _choice,
}
