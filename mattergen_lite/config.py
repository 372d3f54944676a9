"""Every knob and its default, once: YAML files merged left to right, then `key=value` overrides.

    config = RunConfig.load([Path("configs/mp_20.yaml")], ["trainer.devices=4", "run_dir=runs/a"])

A key that does not exist is an error naming its dotted path and the nearest key that does.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from mattergen_lite.files.folders import write_text
from mattergen_lite.files.plain_yaml import parse_yaml, read_yaml
from mattergen_lite.options.checks import (
    LearningRate,
    Seed,
    Share,
    ShareBelowOne,
    complaint,
    options,
)
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.renamed import OPTIONS
from mattergen_lite.options.request import Request
from mattergen_lite.options.sampler import Precision, SamplerOptions

if TYPE_CHECKING:  # torch is slow to load
    from torch import Tensor

S = TypeVar("S", bound="Section")

FORMAT = 2  # of model folders; raised when older programs would misread them
MAX_PARAMETERS = 2_000_000_000  # of a network; more is a mistake or an attack
LOG_FLOOR = 1e-30  # keeps logarithms finite; targets and labels are checked to be positive
MAX_SHOWN = 80  # characters of a value or a key in a message

AnyText = Annotated[str, StringConstraints(min_length=0)]
Duration = Annotated[str, StringConstraints(pattern=r"^\d{1,4}:\d{1,2}:\d{1,2}:\d{1,2}$")]


class Section(BaseModel):
    """A part of the configuration: immutable, and unknown keys are errors."""

    # No value is empty, not a number or infinite, unless its type says that it may be.
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, str_min_length=1, str_max_length=100_000
    )

    @classmethod
    def parse(cls: type[S], tree: dict[str, Any]) -> S:
        """Build from plain data, or raise a one-line ValueError that names the culprit."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ValueError(_explain(cls, error)) from None
        except RecursionError:
            raise ValueError("configuration: nested too deeply") from None

    @classmethod
    def load(cls: type[S], files: Sequence[Path], overrides: Iterable[str] = ()) -> S:
        """Merge YAML files left to right, then overrides such as `model.network.dim=256`.

        Raises:
            ValueError: For a missing file, YAML that is not a mapping, or a key or value that does
                not fit; the message is one line with the dotted path.
        """
        tree: dict[str, Any] = {}
        for file in files:
            tree = _merged(tree, read_yaml(file))
        for override in overrides:
            tree = _merged(tree, _override_tree(override))
        return cls.parse(tree)

    def save(self, path: Path) -> None:
        """Write the resolved configuration as YAML."""
        write_yaml(self, path)


class DataConfig(Section):
    """Which crystals are trained on."""

    path: str = "embedded"  # a crystal table (parquet), or the one inside the package
    train_splits: tuple[str, ...] = ("train",)
    val_splits: tuple[str, ...] = ("val",)
    max_e_above_hull: float | None = None  # eV/atom; rows without a value are dropped when set
    max_orbits: PositiveInt = 20  # symmetry-distinct atoms: the tokens of the network
    max_atoms: PositiveInt = 52  # in the primitive cell
    symmetry_dropout: float = 0.2  # share of crystals shown under a subgroup, half of them in P1
    batch_size: PositiveInt = 256  # crystals per device and step
    pool_batches: PositiveInt = 32  # batches that are sorted by size together: less padding


class PropertyConfig(Section):
    """One property the model can be conditioned on.

    A "real" value is standardised with `mean` and `std`, after log10 if `log`; a "category" is an
    integer from 1 to `num_categories`; "elements" is the set of elements present.
    """

    name: str
    unit: AnyText = ""
    kind: Literal["real", "category", "elements"] = "real"
    log: bool = False  # standardise the logarithm (positive properties that span decades)
    mean: float = 0.0  # mean 0 and std 1: filled in from the training data
    std: PositiveFloat = 1.0
    minimum: float | None = None  # smallest and largest value seen in training, if known
    maximum: float | None = None
    num_categories: Annotated[int, Field(ge=0, le=10_000)] = 0

    def normalise(self, value: "Tensor") -> "Tensor":
        """Physical values to standardised ones."""
        raw = value.clamp(min=LOG_FLOOR).log10() if self.log else value
        return (raw - self.mean) / self.std

    def denormalise(self, standard: "Tensor") -> "Tensor":
        """Standardised values to physical ones."""
        raw = standard * self.std + self.mean
        return 10**raw if self.log else raw

    def within_reason(self, value: "Tensor") -> "Tensor":
        """Predicted values, none below zero of what was never seen below: a gap, a density."""
        never_negative = self.minimum is not None and self.minimum >= 0
        return value.clamp(min=0) if never_negative else value


class NetworkConfig(Section):
    """Size of the denoiser."""

    dim: PositiveInt = 192
    depth: PositiveInt = 6
    num_heads: PositiveInt = 8
    pair_dim: PositiveInt = 32
    mlp_ratio: PositiveInt = 4

    @model_validator(mode="after")
    def _possible(self) -> "NetworkConfig":
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is no multiple of num_heads {self.num_heads}")
        # Weights of attention and MLP; embeddings and modulation are of the same order.
        size = self.depth * (4 + 2 * self.mlp_ratio) * self.dim**2 + self.pair_dim**2
        if size > MAX_PARAMETERS:
            raise ValueError(f"{size:.2g} parameters: expected at most {MAX_PARAMETERS:.2g}")
        return self


class NoiseConfig(Section):
    """Noise levels, in units where coordinates spread by 0.29 and lattice numbers by 0.3."""

    log_mean: float = -1.2  # training: ln(sigma) ~ N(log_mean, log_std²)
    log_std: PositiveFloat = 1.2
    sigma_min: PositiveFloat = 0.002  # training: levels beyond these two are brought back to them
    sigma_max: PositiveFloat = 10.0
    # Sampling spends its steps where something is decided: above `start` nothing is, and from
    # `end`, some 0.05 Å, the last step goes all the way.
    start: PositiveFloat = 3.0
    end: PositiveFloat = 0.01
    rho: PositiveFloat = 7.0  # spacing of the levels in between


class ModelConfig(Section):
    """All that is needed to rebuild a model around its weights."""

    format: Annotated[int, Field(ge=1, le=FORMAT)] = FORMAT  # of the folder
    network: NetworkConfig = NetworkConfig()
    noise: NoiseConfig = NoiseConfig()
    properties: tuple[PropertyConfig, ...] = ()
    max_orbits: PositiveInt = 20
    max_atoms: PositiveInt = 52
    atom_count_histogram: tuple[int, ...] = ()  # crystals with 1, 2, ... atoms; empty: filled in
    data_sha256: AnyText = ""  # fingerprint of the table it was trained on


class LossConfig(Section):
    """Weights of the three channels, and what is hidden from the network and how often."""

    types: NonNegativeFloat = 1.0
    coords: NonNegativeFloat = 5.0
    lattice: NonNegativeFloat = 1.0
    drop_all: Share = 0.5  # share of crystals trained without properties
    drop_each: Share = 0.6  # in the others, share of properties hidden
    # Properties hidden apart from the others, each in its own share of crystals.
    drop: dict[str, Share] = {"e_above_hull": 0.15}
    type_dropout: ShareBelowOne = 0.0  # of the features that elements are read from
    hide_classes: Share = 0.5  # share trained without knowing which orbits hold the same element
    # Properties being taught to a finished model: validation shows them; training shows them in
    # every conditional crystal that has them, in half of these alone.
    focus: tuple[str, ...] = ()


class OptimizerConfig(Section):
    """AdamW: linear warm-up, a constant rate, and a linear decay to zero at the end.

    A run goes on from any checkpoint before the decay: raise `max_steps` to train for longer.
    """

    learning_rate: LearningRate = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.99)
    warmup_steps: NonNegativeInt = 500
    max_steps: PositiveInt = 100_000  # the rate reaches zero here
    decay_steps: NonNegativeInt = 20_000  # of these, the last ones decay; at most all
    clip_norm: PositiveFloat = 1.0
    ema_decay: ShareBelowOne = 0.9995


class TrainerConfig(Section):
    """Hardware, precision, time, validation and selection of weights of a training run."""

    accelerator: str = "auto"
    devices: int | str = "auto"
    num_nodes: PositiveInt = 1
    strategy: str = "auto"
    precision: Precision = "auto"  # auto: bf16 on GPUs
    compile: bool = False  # the transformer blocks with torch.compile: a minute, then faster
    max_time: Duration | None = None  # DD:HH:MM:SS; stops cleanly, the same command continues
    checkpoint_minutes: PositiveFloat = 10.0
    val_every: PositiveInt = 1000  # steps
    log_every: PositiveInt = 50  # steps
    select: Literal["last", "loss", "sun"] = "last"  # which weights are exported, see `training`
    select_samples: PositiveInt = 64  # judged at each validation, if selected by sun
    patience: PositiveInt | None = None  # validations without improvement of what selects
    threads: PositiveInt | None = None  # CPU threads; None leaves torch's choice

    @model_validator(mode="after")
    def _patience_needs_a_measure(self) -> "TrainerConfig":
        if self.patience is not None and self.select == "last":
            raise ValueError("patience needs select=loss or select=sun")
        return self


class RunConfig(Section):
    """One training run."""

    run_dir: Path
    seed: Seed = 0
    init_from: Path | None = None  # model to start from: the same network, perhaps fewer properties
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    trainer: TrainerConfig = TrainerConfig()


@options
class GenerateConfig(SamplerOptions, Request):
    """What is asked of every sample and how it is made; texts as on the command line."""


class WorkersConfig(Section):
    """Who works, unless a scheduler is running already; changes no result."""

    count: PositiveInt | None = None  # None: one a GPU or, without, as many as there are cores
    cores: PositiveInt = 1  # processes with which each of them judges
    device: str = "auto"
    memory: str = "auto"  # of each, such as 8GiB; one that takes more is started again
    retries: NonNegativeInt = 2  # of a unit that fails, before it is set aside


class CampaignConfig(Section):
    """One campaign: what is generated or read, how it is judged, and who works."""

    run_dir: Path
    source: Path | None = None  # structures to judge instead of generating any
    num_samples: PositiveInt = 1024
    unit_size: PositiveInt = 64  # crystals that are made, judged and stored together
    seed: Seed = 0
    first_sample: NonNegativeInt = 0
    generate: GenerateConfig = GenerateConfig()
    judge: JudgeOptions = JudgeOptions()
    workers: WorkersConfig = WorkersConfig()


class ClusterConfig(Section):
    """A batch system that starts the workers; options as dask-jobqueue names them."""

    kind: Literal["slurm", "pbs", "sge", "lsf", "oar", "htcondor", "local"]
    jobs: PositiveInt = 1
    options: dict[str, Any] = {}


def shipped(folder: Literal["configs", "checkpoints"]) -> Path:
    """Where configurations and models lie: in the installed package or the source checkout."""
    package = Path(__file__).parent
    installed = package / "assets" / folder
    return installed if installed.exists() else package.parent / folder


def write_yaml(section: Section, path: Path) -> None:
    """Write a section as plain YAML, all at once."""
    text = yaml.safe_dump(section.model_dump(mode="json"), sort_keys=False)
    write_text(text, path)


def _merged(base: dict[str, Any], update: dict[str, Any]) -> dict[str, Any]:
    both_trees = {
        k
        for k in base.keys() & update.keys()
        if isinstance(base[k], dict) and isinstance(update[k], dict)
    }
    return base | update | {key: _merged(base[key], update[key]) for key in both_trees}


def _override_tree(override: str) -> dict[str, Any]:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ValueError(
            f"override {override!r} is not of the form key=value, such as trainer.devices=2"
        )
    try:
        value: Any = parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"override {override[:MAX_SHOWN]!r}: {error}") from None
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def _explain(section: type[Section], error: ValidationError) -> str:
    newer = [line for line in error.errors() if line["loc"][-1:] == ("format",)]
    if newer:
        return (
            f"configuration format is {str(newer[0]['input'])[:MAX_SHOWN]}, this version reads up "
            f"to {FORMAT}: use a newer version of mattergen-lite"
        )
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    if first["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        said = complaint(error)
        return f"configuration {said if said.startswith(path) else f'{path}: {said}'}"
    if (name := path.rpartition(".")[2]) in OPTIONS:
        return f"configuration {path} is now called {OPTIONS[name]}"
    path = path[:MAX_SHOWN]
    near = difflib.get_close_matches(path, _dotted_keys(section), n=1, cutoff=0.0)
    return f"configuration has no key {path!r}; the nearest one is {near[0]!r}"


def _dotted_keys(section: type, prefix: str = "") -> list[str]:
    """Paths of all keys of a section or options, those of the parts included."""
    if is_dataclass(section):
        return [prefix + field.name for field in fields(section)]
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if hasattr(field.annotation, "model_fields") or is_dataclass(field.annotation):
            keys += _dotted_keys(field.annotation, f"{prefix}{name}.")
    return keys
