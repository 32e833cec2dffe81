"""Chat templates: what they say, and that hostile ones are stopped."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overclock.errors import InputError, ModelError
from overclock.model.chat import ROLES, ChatTemplate
from overclock.model.chat_limits import Limits

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = """\
{%- if tools %}
    {{- bos_token + "system\\n" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
{%- endif %}
{%- set ns = namespace(last=none, texts=[]) %}
{%- for message in messages %}
    {%- if message.role == "user" %}
        {%- set ns.last = loop.index0 %}
    {%- elif loop.last and message.role == "assistant" %}
        {%- continue %}
    {%- endif %}
    {%- set ns.texts = ns.texts + [message.content | trim] %}
    {%- for call in message.tool_calls or [] %}
        {{- '{"name": "' ~ call.function.name ~ '", "arguments": ' }}
        {{- call.function.arguments | tojson(indent=2) }}
    {%- endfor %}
    {% generation %}{{ message.role.upper() }}{% endgeneration %}
{%- endfor %}
{{ ns.texts | join(", ") }} {{ ns.last }} {{ messages[1:] | length }} {{ "%d-%s" | format(3, "x") }}
{{ messages | selectattr("role", "equalto", "user") | map(attribute="content") | list }}
{{ (messages | first).content.split(" ")[-1].replace("i", "o") }} {{ thinking is defined }}
"""
MESSAGES: list[Mapping[str, object]] = [
    {"role": "system", "content": "Be <b>brief</b> & kind"},
    {"role": "user", "content": " hi\n"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, "é"]}}}],
    },
    {"role": "tool", "content": "42"},
    {"role": "assistant", "content": "left out"},
]


def template(source: str, limits: Limits | None = None) -> ChatTemplate:
    return ChatTemplate(source, bos="<s>", eos="</s>", limits=limits)


def render(source: str) -> str:
    return template(source).render([{"role": "user", "content": "hi"}])


def test_chatml() -> None:
    assert template(CHATML).render([{"role": "user", "content": "hi"}]) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert template(CHATML).render([], add_generation_prompt=False) == ""


def test_as_plain_jinja_would() -> None:
    """The bounds change nothing of what a template means."""
    plain = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    plain.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    source = TOOLS.replace("endgeneration", "endif").replace("generation", "if true")
    tools: list[Mapping[str, object]] = [{"type": "function", "function": {"name": "<f> & 'g'"}}]
    expected = plain.from_string(source).render(
        messages=MESSAGES, tools=tools, bos_token="<s>", thinking=True
    )
    assert template(TOOLS).render(MESSAGES, tools=tools, thinking=True) == expected
    assert "<b>brief</b> & kind" in expected


def test_token_texts_and_own_variables() -> None:
    source = "{{ bos_token }}{{ eos_token }}{{ deep.x }}{{ add_generation_prompt }}"
    assert template(source).render([], deep={"x": (1, 2)}) == "<s></s>[1, 2]True"
    assert ChatTemplate("{{ bos_token }}", bos=None, eos=None).render([]) == ""


def test_the_date_can_be_asked_for() -> None:
    assert re.fullmatch(r"\d\d [A-Z]\w+ \d{4}", render("{{ strftime_now('%d %B %Y') }}"))


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert (
        template("{{ messages[0].content }}").render([{"role": "user", "content": parts}]) == "a b"
    )


@pytest.mark.parametrize("role", ROLES)
def test_known_roles(role: str) -> None:
    assert template("{{ messages[0].role }}").render([{"role": role, "content": ""}]) == role


def test_a_call_needs_no_content() -> None:
    message = {"role": "assistant", "tool_calls": [{"name": "f"}]}
    assert template("{{ messages[0].content }}").render([message]) == "None"


@pytest.mark.parametrize(
    ("message", "named"),
    [
        ("hi", "message 1 is 'hi'"),
        ({"content": "x"}, "role None"),
        ({"role": "wizard", "content": "x"}, "wizard.*assistant"),
        ({"role": "user"}, "content None"),
        ({"role": "user", "content": 3}, "content 3"),
        ({"role": "user", "content": b"x"}, "content b'x'"),
        ({"role": "user", "content": ["x"]}, "part 'x'"),
        ({"role": "user", "content": [{"type": "image", "url": "x"}]}, "image"),
        ({"role": "user", "content": [{"type": "text"}]}, "part"),
        ({"role": "user", "content": "x", "extra": object()}, "JSON"),
    ],
)
def test_malformed_messages(message: object, named: str) -> None:
    good = {"role": "user", "content": "x"}
    with pytest.raises(InputError, match=named):
        template(CHATML).render([good, message])  # type: ignore[list-item]


def test_a_template_can_refuse() -> None:
    with pytest.raises(InputError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


BROKEN = {
    "syntax": "{% for %}",
    "unclosed": "{% for x in messages %}",
    "undefined": "{{ nothing.here.now }}",
    "type": "{{ 1 + 'a' }}",
    "division": "{{ 1 // 0 }}",
    "unknown filter": "{{ 'a' | nonsense }}",
    "no loader": "{% include 'x' %}",
    "too long": "x" * 200_000,
    "nested": "{{ " + "(" * 10_000 + "1" + ")" * 10_000 + " }}",
    "nested loops": "{% for i in [1] %}" * 30 + "{% endfor %}" * 30,
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "block in itself": "{% block a %}{{ self.a() }}{% endblock %}",
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_broken_templates(source: str) -> None:
    with pytest.raises(ModelError, match="chat template"):
        render(source)


def _growing(start: str, step: str, end: str = "{{ ns.x }}") -> str:
    loop = f"{{% for i in range(90) %}}{{% set ns.x = {step} %}}{{% endfor %}}"
    return f"{{% set ns = namespace(x={start}) %}}{loop}{end}"


def _million(end: str) -> str:
    return "{% set x = 'a' * 1000000 %}" + end


HOSTILE = {
    "range": "{% for i in range(10**9) %}{% endfor %}",
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "macro tree": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}"
    "{{ f(90) }}",
    "concatenation": _growing("'ab'", "ns.x ~ ns.x"),
    "sum": _growing("'ab'", "ns.x + ns.x"),
    "list sum": _growing("[1]", "ns.x + ns.x"),
    "list in itself": _growing("[1]", "[ns.x, ns.x]"),
    "tuple in itself": _growing("(1,)", "(ns.x, ns.x)", "{{ {ns.x: 1} }}"),
    "dict in itself": _growing("{}", "{'a': ns.x, 'b': ns.x}", "{{ ns.x | tojson }}"),
    "dict call in itself": _growing("{}", "dict(a=ns.x, b=ns.x)", "{{ ns.x == ns.x }}"),
    "square": _growing("3", "ns.x * ns.x"),
    "set block": _growing("'ab'", "ns.x", "").replace(
        "{% set ns.x = ns.x %}", "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}"
    ),
    "repetition": "{{ 'a' * 10**10 }}",
    "repetition reversed": "{{ 10**10 * 'a' }}",
    "list repetition": "{{ [0] * 10**10 }}",
    "power": "{% set n = 10**1000 %}{{ n ** n }}",
    "center": "{{ 'a' | center(10**10) }}",
    "center method": "{{ 'a'.center(10**10) }}",
    "padding": "{{ 'a'.ljust(10**10) }}{{ '1'.zfill(10**10) }}",
    "tabs": "{{ '\t'.expandtabs(10**10) }}",
    "bytes": "{{ (1).to_bytes(10**10, 'big') }}",
    "indent": "{{ 'a\nb' | indent(10**10) }}",
    "indented json": "{{ [[1]] | tojson(indent=10**9) }}",
    "width": "{{ '%10000000000d' % 1 }}",
    "width filter": "{{ '%10000000000d' | format(1) }}",
    "computed width": "{{ '%*d' % (10**10, 1) }}",
    "format width": "{{ '{:10000000000}'.format(1) }}",
    "computed format width": "{{ '{:{}}'.format(1, 10**10) }}",
    "format repeats": _million("{% set f = '{0}' * 100000 %}{{ f.format(x) }}"),
    "replace": _million("{{ x.replace('a', x) }}"),
    "replace filter": _million("{{ x | replace('a', x) }}"),
    "join": _million("{{ x.join(x) }}"),
    "join filter": _million("{{ x | join(x) }}"),
    "slices": _million("{% for i in range(99999) %}{% set y = x[1:] %}{% endfor %}"),
    "split": "{% set x = 'a' * 30000000 %}{{ x.split('a') }}",
    "letters": "{% set x = 'a' * 30000000 %}{{ x | list }}",
    "round": "{{ 1.5 | round(10**9) }}",
    "time format": "{{ strftime_now('%1000000000Y') }}",
    "list sums": "{{ [[1], [2]] | sum(start=[]) }}",
    "filter block": "{% filter center(10**10) %}a{% endfilter %}",
    "while compiling": "{% autoescape 'a' * 10**10 %}{{ 'x' }}{% endautoescape %}",
    "caller": "{% macro m() %}{{ caller() }}{% endmacro %}"
    "{% call m() %}{{ 'a' * 10**9 }}{% endcall %}",
    "class": "{{ ''.__class__.__mro__ }}",
    "attr": "{{ '' | attr('__class__') }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "function": "{{ raise_exception.__globals__.x }}",
    "namespace": "{% set ns = namespace(_Namespace__attrs=1) %}",
    "namespace later": "{% set ns = namespace() %}{% set ns._x = 1 %}",
    "change the messages": "{{ messages.append(1) }}",
    "filler": "{{ lipsum(n=1000000) }}",
    "batch": "{{ [1] | batch(10**10, 0) | list }}",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_hostile_templates_are_stopped(source: str) -> None:
    with pytest.raises(ModelError, match="chat template"):
        render(source)


def test_time_is_bounded_in_any_thread() -> None:
    source = "{% for i in range(900000) %}{% set y = i %}{% endfor %}"
    failures: list[BaseException] = []

    def work() -> None:
        try:
            template(source, Limits(seconds=0.01)).render([])
        except ModelError as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ["0.01 seconds" in str(failure) for failure in failures] == [True] * 3


def test_one_rendering_does_not_use_up_anothers_budget() -> None:
    source = template("{% for i in range(600) %}x{% endfor %}", Limits(steps=2000))
    assert {len(source.render([])) for _ in range(5)} == {600}


def test_harmless_templates_may_print_much() -> None:
    long = "x" * 1_000_000
    assert len(template(CHATML).render([{"role": "user", "content": long}] * 2)) > 2_000_000


NAMES = st.sampled_from(["messages", "ns", "x", "1", "'a'", "[x]", "(x, x)", "range(9)", "{}"])
EXPRESSIONS = st.recursive(
    NAMES,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "*", "~", "==", "in"]), inner),
        st.builds(
            "({} | {})".format,
            inner,
            st.sampled_from(["list", "join", "length", "tojson", "first"]),
        ),
        st.builds("{}[{}]".format, inner, inner),
    ),
    max_leaves=8,
)


@given(EXPRESSIONS, st.text(max_size=5))
def test_any_expression_gives_text_or_a_sentence(expression: str, text: str) -> None:
    source = f"{{% set ns = namespace() %}}{{% set x = [1] %}}{{{{ {expression} }}}}{text}"
    try:
        assert isinstance(render(source), str)
    except ModelError as error:
        assert "chat template" in str(error)  # noqa: PT017 - either outcome is right
