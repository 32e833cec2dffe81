"""`overclock explain`: what the model did, token by token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import click

from overclock.cli import opening, options
from overclock.cli.output import note, print_json, progress
from overclock.files import write_atomic

if TYPE_CHECKING:
    from overclock.explain.explainer import Explainer
    from overclock.explain.explanation import Explanation, Wanted
    from overclock.explain.occlusion import Progress
    from overclock.machine.choose import MachineName

METHODS = ("attention", "rollout", "lens", "occlusion")

EPILOG = """\b
Methods:
  attention  where tokens look, the mean of all heads or that of --layer and --head
  rollout    attention followed through all layers to the input
  lens       what each layer would have said, had it been the last
  occlusion  how much less likely the answer is without each token

Attention says where information came from; only occlusion says what mattered.
"""


class Asked(TypedDict):
    """What is explained, and how a prompt is put."""

    max_tokens: int | None
    target: str | None
    position: int | None
    system: str | None
    raw: bool


@click.command(epilog=EPILOG)
@click.argument("prompt")
@options.model()
@click.option(
    "-n",
    "--max-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most tokens of the answer that is explained.  [default: 32]",
)
@click.option("--method", type=click.Choice([*METHODS, "all"]), default="all", show_default=True)
@click.option("--layer", type=int, metavar="L", help="Attention of this layer, from 0.")
@click.option("--head", type=int, metavar="H", help="Attention of this head, from 0.")
@click.option(
    "--target", metavar="TEXT", help="Explain this answer, class or word, not the likeliest."
)
@click.option(
    "--position",
    type=int,
    metavar="N",
    help="The token, from 0, whose label or missing word an encoder explains.",
)
@click.option("--words", is_flag=True, help="Leave out whole words, not single tokens.")
@click.option("--system", metavar="TEXT", help="Instructions in front of the prompt.")
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without chat template.")
@click.option(
    "--html", metavar="FILE", help="Write a page to look through, which needs no network."
)
@options.threads
@options.exact
@options.as_json
@options.machine
def command(
    prompt: str,
    model: str,
    method: str,
    layer: int | None,
    head: int | None,
    words: bool,
    html: str | None,
    threads: int | None,
    exact: bool,
    as_json: bool,
    machine: MachineName,
    **asked: object,
) -> None:
    """Explain the answer to PROMPT (- reads it from stdin), or what an encoder says of it."""
    from overclock.cli.run import read_prompt
    from overclock.explain.explainer import Explainer
    from overclock.explain.explanation import METHODS, Wanted

    text = read_prompt(prompt)
    wanted = Wanted(
        methods=frozenset(each for each in METHODS if method in (each, "all")),
        layer=layer,
        head=head,
        words=words,
        keep_maps=html is not None,
    )
    question: Asked = asked  # type: ignore[assignment]
    with progress("explaining") as tell:
        explainer = Explainer(opening.load(model), threads, exact, machine=machine)
        found = _explain(explainer, text, wanted, question, tell)
    _hand_out(found, wanted, html, as_json)


def _explain(
    explainer: Explainer, text: str, wanted: Wanted, asked: Asked, tell: Progress
) -> Explanation:
    if explainer.model.config.family != "bert":
        return _explain_answer(explainer, text, wanted, asked, tell)
    from overclock.explain.encodings import explain_encoding

    if asked["raw"] or asked["system"] is not None or asked["max_tokens"] is not None:
        raise click.UsageError(
            f"{explainer.model.name} is an encoder; it takes no --raw, --system or --max-tokens"
        )
    target, position = asked["target"], asked["position"]
    return explain_encoding(
        explainer, text, wanted, target=target, position=position, progress=tell
    )


def _explain_answer(
    explainer: Explainer, text: str, wanted: Wanted, asked: Asked, tell: Progress
) -> Explanation:
    from overclock import prompts
    from overclock.cli.run import prompt_of
    from overclock.explain.answers import answer_of, explain_answer

    if asked["position"] is not None:
        raise click.UsageError("--position is for encoders; each token of an answer is explained")
    if asked["raw"] and asked["system"] is not None:
        raise click.UsageError("--system needs the chat template that --raw leaves out")
    model = explainer.model
    explainer.check_layer(wanted.layer, wanted.head)
    ids = prompts.to_ids(model, prompt_of(model, text, asked["system"], asked["raw"]))
    if asked["target"] is None:
        answer = answer_of(explainer, ids, asked["max_tokens"] or 32, tell)
    else:
        answer = model.tokenizer.encode(asked["target"], add_bos=False)
    return explain_answer(explainer, ids, answer, wanted, tell)


def _hand_out(found: Explanation, wanted: Wanted, html: str | None, as_json: bool) -> None:
    """To a file, to whoever reads JSON, or to who looks."""
    if html is not None:
        from overclock.explain.page import page

        write_atomic(Path(html), page(found))
        note(f"the explanation is in {html}; open it with a browser")
    if as_json:
        from overclock.explain.record import record

        print_json(record(found))
    elif html is None:
        from overclock.cli.explained import show

        show(found, wanted)
