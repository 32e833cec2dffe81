"""From a model to the program that a machine runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from overclock.errors import InputError, ModelError
from overclock.model.formats import Format
from overclock.model.model import Model
from overclock.program.families import FAMILIES
from overclock.program.passes import PASSES, Pass
from overclock.program.program import Program
from overclock.program.verify import verify


def compile(
    model: Model,
    *,
    exact: bool = False,
    weight_format: Format | None = None,
    passes: Collection[str] | None = None,
    adapters: Collection[str] = (),
) -> Program:
    """The verified program of `model`.

    exact: matrix products take f32 activations; the passes that quantise them are left out.
    weight_format: `Format.I8` asks the machine to quantise floating-point matrices as it loads
        them, a row at a time; None leaves every weight in its own format.
    passes: names of the passes to apply, in the order of `passes.PASSES`; None for all.
    adapters: names of the matrices that adapters may change (`Adapter.sites`); only there has the
        program an instruction for them.

    Raises ModelError if the model lacks a tensor or is of an unknown family, InputError for an
    unknown pass or weight format or a matrix that no adapter can change, ProgramError if the result
    is not well formed.
    """
    if weight_format not in (None, Format.I8):
        raise InputError(f"weights cannot be held as {weight_format}; leave it out, or take I8")
    chosen = choose(exact, passes)
    write = FAMILIES.get(model.config.family)
    if write is None:
        known = ", ".join(FAMILIES)
        raise ModelError(f"{model.name} is of the family {model.config.family}; known: {known}")
    program = replace(write(model, weight_format, adapters), exact=exact)
    for site in adapters:
        if site not in program.sites:
            raise InputError(f"{model.name} has no matrix {site!r} that an adapter could change")
    for each in chosen:
        program = each.apply(program)
    verify(program)
    return program


def all_but(without: Collection[str], *, exact: bool = False) -> tuple[str, ...]:
    """Names of the passes of a mode that are not in `without`, for `compile(passes=…)`.

    Raises InputError for a name that is none of them.
    """
    choose(False, without)
    return tuple(each.name for each in choose(exact, None) if each.name not in without)


def choose(exact: bool, names: Collection[str] | None) -> tuple[Pass, ...]:
    """The passes to apply, in order. Raises InputError for a name that is none of them."""
    known = {each.name: each for each in PASSES}
    for name in names or ():
        if name not in known:
            raise InputError(f"there is no pass {name!r}; the passes are {', '.join(known)}")
        if exact and known[name].quantizes:
            raise InputError(f"the pass {name} quantises activations; exact mode cannot have it")
    return tuple(
        each
        for each in PASSES
        if (names is None or each.name in names) and not (exact and each.quantizes)
    )
