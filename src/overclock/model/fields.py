"""Reading untrusted key–value data (config.json, GGUF metadata) with a check on every value."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from overclock.errors import ModelError

MAX_JSON: Final = 100_000_000  # bytes
MAX_SIZE: Final = 1 << 31  # of anything that counts elements


@dataclass(frozen=True, slots=True)
class Fields:
    """The values of one object in `path`; every error names the file and the key.

    A key whose value is null counts as absent. Several spellings of a key may be given, separated
    by ``|``; the first one present is taken.
    """

    path: Path
    values: Mapping[str, object]
    prefix: str = ""  # goes in front of every key, for messages and look-up

    def get(self, key: str) -> object:
        """The value, or None."""
        for spelling in key.split("|"):
            value = self.values.get(self.prefix + spelling)
            if value is not None:
                return value
        return None

    def wrong(self, key: str, expected: str) -> ModelError:
        """The error for a value that is not what it must be."""
        spellings = key.split("|")
        name = next((name for name in spellings if self.get(name) is not None), spellings[0])
        value = self.get(name)
        shown = "missing" if value is None else repr(value)[:60]
        return ModelError(f"{self.path}: {self.prefix}{name} is {shown}; it must be {expected}")

    def size(self, key: str, default: int | None = None, *, limit: int = MAX_SIZE) -> int:
        """A positive integer up to `limit`."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) is not int or not 1 <= value <= limit:
            raise self.wrong(key, f"a whole number from 1 to {limit}")
        return value

    def index(self, key: str, default: int) -> int:
        """An integer from 0 on."""
        value = self.get(key)
        if value is None:
            return default
        if type(value) is not int or not 0 <= value <= MAX_SIZE:
            raise self.wrong(key, f"a whole number from 0 to {MAX_SIZE}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A positive finite number."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not isinstance(value, int | float):
            raise self.wrong(key, "a positive number")
        if not math.isfinite(value) or not 1e-30 < value < 1e30:
            raise self.wrong(key, "a positive number")
        return float(value)

    def text(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """A truth value."""
        value = self.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> list[str]:
        """A list of strings, empty if absent."""
        value = self.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of strings")
        return value

    def section(self, key: str) -> Fields:
        """An object inside, empty if absent."""
        value = self.get(key)
        if value is None:
            return Fields(self.path, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(self.path, value)


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises ModelError if it cannot be read, is too large or is not an object.
    """
    try:
        if path.stat().st_size > MAX_JSON:
            raise ModelError(f"{path} is larger than {MAX_JSON} bytes; it cannot be what it seems")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {str(error)[:80]}; download it again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object; download it again")
    return value
