"""LoRA adapters: small matrices that change what a model's large ones compute.

W · x becomes W · x + scale · B · (A · x) with A ``[rank, in]`` and B ``[out, rank]``.
Sources: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021; Kalajdzievski, "A
Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", 2023; `peft`'s checkpoint format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from overclock.errors import ModelError
from overclock.model.checkpoint import Stored, read_safetensors
from overclock.model.fields import Fields, read_json
from overclock.model.model import Config, Model
from overclock.model.names import canonical_name

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
PICKLE: Final = "adapter_model.bin"
MAX_RANK: Final = 4096

SITES: Final = re.compile(r"blk\.\d+\.(?:attn_(?:q|k|v|output)|ffn_(?:gate|up|down))\.weight")
"""The matrices that an adapter may change."""

_PREFIX: Final = "base_model.model."
_TENSOR: Final = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_MODULE: Final = re.compile(r"\^?[A-Za-z0-9_]+(?:\\?\.[A-Za-z0-9_]+)*\$?")

_REFUSED: Final[Mapping[str, str]] = {
    "use_dora": "DoRA scales whole columns",
    "use_qalora": "QALoRA pools its input",
    "use_bdlora": "BD-LoRA's matrices are made of blocks",
    "kasa_config": "KaSA changes its base model",
    "monteclora_config": "MonteCLoRA draws its matrices at random",
    "lora_bias": "its matrices have biases",
    "modules_to_save": "it brings whole layers of its own",
    "layer_replication": "it repeats layers",
    "target_parameters": "it changes parameters that are no layers",
    "trainable_token_indices": "it changes embeddings",
    "alora_invocation_tokens": "it is only to be switched on behind certain tokens",
    "arrow_config": "it chooses among adapters for each token",
    "fan_in_fan_out": "its base model stores matrices transposed",
}
"""Settings that would make a plain low-rank sum wrong, and why."""

_CHANGES_BASE: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to start the training that change the base model's weights, so that the file is not all."""


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """What is added to a matrix: scale · b · a; ``a f32[rank, in]``, ``b f32[out, rank]``."""

    a: NDArray[np.float32]
    b: NDArray[np.float32]
    scale: float

    @property
    def rank(self) -> int:
        """Rows of `a`, columns of `b`."""
        return len(self.a)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrix that it changes: (out, in)."""
        return self.b.shape[0], self.a.shape[1]

    def delta(self) -> NDArray[np.float32]:
        """What is added as one matrix, ``f32[out, in]``."""
        return np.asarray(np.float32(self.scale) * (self.b @ self.a), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """The changes of an adapter by the canonical name of the matrix that each belongs to."""

    name: str
    sites: Mapping[str, LowRank]

    @property
    def bytes(self) -> int:
        """Bytes of all its matrices in f32."""
        return sum(each.a.nbytes + each.b.nbytes for each in self.sites.values())


def load_adapter(path: Path, model: Model, name: str | None = None) -> Adapter:
    """The adapter in the directory `path`, as `peft` saves it, for `model`.

    `name` is what it is called, None for the directory's name. Rows of B are put into the order
    that the model's q and k have, which GGUF changes for Llama.

    Raises ModelError if files are missing or damaged, if the adapter does more than add products of
    low rank to the matrices of attention and feed-forward, or if it belongs to another model.
    """
    if not (path / CONFIG).is_file():
        raise ModelError(f"{path} has no {CONFIG}: it is not an adapter's directory")
    settings = _Settings.read(path / CONFIG)
    pairs = _pairs(path, _tensors(path))
    sites = dict(_site(path, model, settings, module, pair) for module, pair in pairs.items())
    return Adapter(path.resolve().name if name is None else name, sites)


# -- the configuration ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Settings:
    """What adapter_config.json says of the matrices."""

    path: Path
    rank: int
    alpha: float
    stabilised: bool  # alpha is divided by √rank, not by rank
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    targets: tuple[str, ...]  # empty if they are not given as a list

    @classmethod
    def read(cls, path: Path) -> _Settings:
        fields = Fields(path, read_json(path))
        _refuse_other_kinds(fields)
        ranks, alphas = fields.section("rank_pattern"), fields.section("alpha_pattern")
        targets = fields.get("target_modules")
        return cls(
            path,
            fields.size("r", limit=MAX_RANK),
            fields.number("lora_alpha"),
            fields.flag("use_rslora", default=False),
            {_module(path, key): ranks.size(key, limit=MAX_RANK) for key in ranks.values},
            {_module(path, key): alphas.number(key) for key in alphas.values},
            () if isinstance(targets, str) else tuple(fields.texts("target_modules")),
        )

    def rank_of(self, module: str) -> int:
        """The rank of a module's matrices."""
        return next((v for key, v in self.ranks.items() if _names(key, module)), self.rank)

    def scale(self, module: str) -> float:
        """What B · A is multiplied by."""
        alpha = next((v for key, v in self.alphas.items() if _names(key, module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


def _refuse_other_kinds(fields: Fields) -> None:
    kind = fields.text("peft_type", "LORA")
    if kind != "LORA":
        raise ModelError(f"{fields.path}: an adapter of type {kind} cannot be used; only LoRA can")
    for key, why in _REFUSED.items():
        if fields.get(key):
            raise ModelError(
                f"{fields.path}: an adapter with {key} cannot be used, since {why}; merge it into "
                "its model with peft's merge_and_unload and load that"
            )
    bias = fields.text("bias", "none")
    if bias != "none":
        raise ModelError(
            f"{fields.path}: the adapter trained biases ({bias!r}); only bias 'none' can be used"
        )
    start = fields.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_BASE):
        raise ModelError(
            f"{fields.path}: an adapter that began as {start!r} changed its base model as well; "
            "save it with peft's path_initial_model_for_weight_conversion"
        )


def _module(path: Path, pattern: str) -> str:
    """The plain name that a key of a pattern stands for. Regular expressions are not evaluated."""
    if not _MODULE.fullmatch(pattern):
        raise ModelError(
            f"{path}: the pattern {pattern[:60]!r} is a regular expression; "
            "name the modules one by one"
        )
    return pattern.removeprefix("^").removesuffix("$").replace("\\.", ".")


def _names(name: str, module: str) -> bool:
    """Whether `name` is the module, or the end of its path."""
    return module == name or module.endswith(f".{name}")


# -- the tensors ------------------------------------------------------------------------------


def _tensors(path: Path) -> dict[str, Stored]:
    if (path / WEIGHTS).is_file():
        return read_safetensors(path / WEIGHTS)
    if (path / PICKLE).is_file():
        raise ModelError(
            f"{path} holds {PICKLE}, a format that may run code when it is read; "
            f"save the adapter again with safe_serialization=True for {WEIGHTS}"
        )
    raise ModelError(f"{path} has no {WEIGHTS}: it is not a complete adapter")


def _pairs(path: Path, tensors: Mapping[str, Stored]) -> dict[str, tuple[Stored, Stored]]:
    """Module → its A and B."""
    found: dict[str, dict[str, Stored]] = {}
    for name, stored in tensors.items():
        match = _TENSOR.fullmatch(name)
        if match is None:
            raise ModelError(
                f"{path}: tensor {name[:120]!r} is no matrix A or B of a LoRA adapter; "
                f"those are called {_PREFIX}….lora_A.weight and ….lora_B.weight"
            )
        found.setdefault(match[1], {})[match[2]] = stored
    for module, both in found.items():
        if len(both) < 2:
            raise ModelError(f"{path}: {module} has a matrix {min(both)}, but not the other one")
    if not found:
        raise ModelError(f"{path} holds no matrices: the adapter is empty")
    return {module: (both["A"], both["B"]) for module, both in found.items()}


def _site(
    path: Path, model: Model, settings: _Settings, module: str, pair: tuple[Stored, Stored]
) -> tuple[str, LowRank]:
    """The canonical name of the matrix that a module's A and B change, and the change."""
    if settings.targets and not any(_names(target, module) for target in settings.targets):
        raise ModelError(
            f"{path}: {module} has matrices, but target_modules does not name it; "
            "the files do not belong together"
        )
    site = _canonical(path, model, module)
    rank = settings.rank_of(module)
    out, into = model.weights[site].shape
    _check_shape(path, model, pair[0], (rank, into))
    _check_shape(path, model, pair[1], (out, rank))
    a, b = (_values(path, stored) for stored in pair)
    return site, LowRank(a, _in_order(model.config, site, b), settings.scale(module))


def _canonical(path: Path, model: Model, module: str) -> str:
    config = model.config
    site = canonical_name(f"{module}.weight", config.architecture, config.head)
    if site is None or not SITES.fullmatch(site):
        raise ModelError(
            f"{path}: the adapter changes {module}; only the matrices of attention and of the "
            "feed-forward block can be changed"
        )
    if site not in model.weights:
        raise ModelError(
            f"{path}: the adapter changes {module} ({site}), which {model.name} does not have; "
            "it is an adapter of another model"
        )
    return site


def _check_shape(path: Path, model: Model, stored: Stored, wanted: tuple[int, int]) -> None:
    if stored.shape != wanted:
        raise ModelError(
            f"{path}: tensor {stored.name} has the shape {list(stored.shape)}, but its rank and "
            f"{model.name} ask for {list(wanted)}; it is an adapter of another model"
        )


def _values(path: Path, stored: Stored) -> NDArray[np.float32]:
    values = stored.tensor(stored.name).dequantize()
    if not np.isfinite(values).all():
        raise ModelError(f"{path}: tensor {stored.name} holds a number that is not finite")
    return values


def _in_order(config: Config, site: str, b: NDArray[np.float32]) -> NDArray[np.float32]:
    """B's rows as the model's q and k have them.

    Hugging Face turns columns i and i + head_dim / 2 of a head together. Where a model's rope turns
    neighbours, as in GGUF files of Llama, those columns were put beside each other.
    """
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}.get(site.split(".")[2])
    if heads is None or config.rope_style != "interleaved":
        return b
    halves = b.reshape(heads, 2, -1, b.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(b.shape)
