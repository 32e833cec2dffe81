"""Open a model for a command, showing how a fetch goes if the model is not here yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from pathlib import Path

    from overclock.cli.options import EngineOptions
    from overclock.clock.settings import ClockSettings
    from overclock.encoder import Encoder
    from overclock.engine import LLM
    from overclock.machine.choose import MachineName
    from overclock.model.model import Model
    from overclock.model.source import Progress
    from overclock.visible import Visible

Engine = TypeVar("Engine", bound="Visible")


def load(name: str | Path) -> Model:
    """The model's files, its text for later. Raises as `overclock.model.load.load` does."""
    from overclock.model.load import load

    with _fetching() as progress:
        return load(name, progress=progress, text_later=True)


def language_model(
    name: str | Model, engine: EngineOptions, settings: ClockSettings | None = None
) -> LLM:
    """A language model, ready. Raises as `LLM` does."""
    from overclock.engine import LLM

    with _fetching() as progress:
        llm = LLM(name, **engine, settings=settings, progress=progress)
    return shown(llm)


def encoder(
    name: str | Model, threads: int | None, int8: bool, exact: bool, machine: MachineName
) -> Encoder:
    """An encoder, ready. Raises as `Encoder` does."""
    from overclock.encoder import Encoder

    weights: Literal["int8"] | None = "int8" if int8 else None
    with _fetching() as progress:
        opened = Encoder(name, threads, weights, exact, machine=machine, progress=progress)
    return shown(opened)


def shown(engine: Engine) -> Engine:
    """The engine, which `overclock top` can see unless OVERCLOCK_LIVE is 0."""
    from overclock import settings
    from overclock.errors import InputError

    if settings.live() is None:
        with suppress(InputError):  # nobody asked for it, so a folder that is missing is no mistake
            engine.show()
    return engine


@contextmanager
def _fetching() -> Iterator[Progress]:
    """What to tell of a fetch; nothing is shown or imported unless there is one."""
    with ExitStack() as stack:
        shown: list[Progress] = []

        def tell(what: str, done: int, total: int | None) -> None:
            if not shown:
                from overclock.cli.pull import progress

                shown.append(stack.enter_context(progress()))
            shown[0](what, done, total)

        yield tell
