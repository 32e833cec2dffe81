"""What a user can do wrong, each with a sentence that says what to do about it."""


class OverclockError(Exception):
    """Any mistake or circumstance that the user can mend; the CLI prints it and exits with 2."""


class SourceError(OverclockError):
    """A model's name does not lead to its files: unknown, unreachable, of a wrong hash, no disk."""


class ModelError(OverclockError):
    """A model's files cannot be used: damaged, hostile, incomplete or of an unknown family."""


class TokenizerError(ModelError):
    """The tokenizer is damaged, of an unknown kind, or does not match its model."""


class ProgramError(OverclockError):
    """A program is not well formed; the message names the instruction, its index and shapes."""


class MachineError(OverclockError):
    """The machine cannot run this program or batch: no memory, a missing kernel, a bad batch."""


class InputError(OverclockError):
    """A value the user gave is not possible: an empty prompt, a sampling value out of range."""


class OverloadError(OverclockError):
    """Too many requests wait already; `retry_after_s` is when it is worth trying again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
