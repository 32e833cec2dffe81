"""`overclock chat`: a conversation in the terminal."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overclock.cli import opening, options
from overclock.cli.output import note
from overclock.files import write_atomic

if TYPE_CHECKING:
    from overclock.clock.sampling import SamplingOptions
    from overclock.conversation import Conversation

HELP = "/exit leaves, /reset starts anew, /save FILE keeps the conversation, Ctrl-C stops an answer"


@click.command()
@options.model()
@options.max_tokens
@click.option("--system", metavar="TEXT", help="Instructions in front of the conversation.")
@options.sampling
@options.stop
@options.engine
def command(
    model: str,
    max_tokens: int,
    system: str | None,
    sampling: SamplingOptions,
    stop: tuple[str, ...],
    engine: options.EngineOptions,
) -> None:
    """Talk with a model; it remembers the conversation.

    /exit leaves, /reset starts anew, /save FILE keeps the conversation as JSON; Ctrl-C stops an
    answer.
    """
    from overclock.clock.sampling import Sampling
    from overclock.conversation import Conversation

    Sampling(**sampling)  # a bad value is told before the first question
    with opening.language_model(model, engine) as llm:
        adapter = next(iter(engine["adapters"]), None)
        _Chat(Conversation(llm, system), max_tokens, sampling, stop, adapter).run()


class _Chat:
    """Reads lines, answers them, and obeys the commands among them."""

    def __init__(
        self,
        conversation: Conversation,
        max_tokens: int,
        sampling: SamplingOptions,
        stop: tuple[str, ...],
        adapter: str | None = None,
    ) -> None:
        self._adapter = adapter
        self._conversation = conversation
        self._max_tokens = max_tokens
        self._sampling = sampling
        self._stop = stop
        self._terminal = sys.stdin.isatty()

    def run(self) -> None:
        """Until /exit or the end of the input."""
        if self._terminal:
            with suppress(ImportError):
                import readline  # noqa: F401  # importing it is what gives input() its editing
            note(HELP)
        while (line := self._read()) is not None:
            if line.startswith("/"):
                if not self._obey(line):
                    return
            elif line:
                self._answer(line)

    def _read(self) -> str | None:
        """The next line; None at the end. Ctrl-C drops a line that is being typed."""
        try:
            return input("> " if self._terminal else "").strip()
        except EOFError:
            if self._terminal:
                click.echo()
            return None
        except KeyboardInterrupt:
            if not self._terminal:
                raise
            click.echo()
            note("/exit or Ctrl-D leaves")
            return ""

    def _obey(self, line: str) -> bool:
        """Do what a line with a slash says; whether the chat goes on."""
        word, _, argument = line.partition(" ")
        if word == "/exit":
            return False
        if word == "/reset":
            self._conversation.reset()
            note("the conversation starts anew")
        elif word == "/save":
            self._save(argument.strip())
        else:
            note(f"there is no command {word}: {HELP}")
        return True

    def _answer(self, line: str) -> None:
        from overclock.cli import figures
        from overclock.errors import InputError

        dropped = self._conversation.dropped
        try:
            pieces = self._conversation.say(
                line, self._max_tokens, stop=self._stop, adapter=self._adapter, **self._sampling
            )
        except InputError as error:
            click.echo(f"error: {error}", err=True)
            return
        if self._conversation.dropped > dropped:
            note("the conversation outgrew the context; its oldest turns were dropped")
        try:
            for piece in pieces:
                click.echo(piece.text, nl=False)
                if piece.completion is not None:
                    click.echo()
                    note(figures.line(piece.completion, None, figures.peak_memory()))
        except KeyboardInterrupt:
            click.echo()
            note("stopped")

    def _save(self, name: str) -> None:
        if not name:
            note("/save needs the name of a file")
            return
        messages = {"messages": self._conversation.messages}
        data = json.dumps(messages, ensure_ascii=False, indent=2)
        try:
            write_atomic(Path(name).expanduser(), f"{data}\n".encode(errors="replace"))
        except OSError as error:
            click.echo(f"error: {name}: {error.strerror or error}", err=True)
        else:
            note(f"saved to {name}")
