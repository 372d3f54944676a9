"""Lists the families of potentials that this package knows."""

from dataclasses import dataclass
from importlib import import_module

from mattergen_lite.scoring.energy.potentials.base import Potential


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models of one kind, run by one package."""

    loader: str  # a module beside this one and its function of a model's name and a device
    package: str  # that the loader imports
    distribution: str  # that pip installs
    suffix: str = ""  # of files of weights; "/" for a folder
    extra: str = ""  # of pyproject.toml, which installs it; "" if it comes with this package

    def load(self, model: str, device: str) -> Potential:
        """Load a model by its name or the path of its weights."""
        module, _, function = self.loader.partition(".")
        return getattr(import_module(f"{__package__}.{module}"), function)(model, device)

    @property
    def install(self) -> str:
        """The command that installs its package."""
        if self.extra:
            return f"`pip install '.[{self.extra}]'` in the source folder"
        return f"`pip install {self.distribution}`"


FAMILIES = {
    "7net": Family(loader="sevennet.load", package="sevenn", distribution="sevenn", suffix=".pth"),
    "chgnet": Family(loader="chgnet.load", package="chgnet", distribution="chgnet"),
    "mace": Family(
        loader="calculators.mace",
        package="mace",
        distribution="mace-torch",
        suffix=".model",
        extra="mace",
    ),
    "matgl": Family(
        loader="calculators.matgl", package="matgl", distribution="matgl", suffix="/", extra="matgl"
    ),
    "mattersim": Family(
        loader="calculators.mattersim",
        package="mattersim",
        distribution="mattersim",
        suffix=".pth",
        extra="mattersim",
    ),
    "nequix": Family(loader="nequix.load", package="e3nn", distribution="e3nn", suffix=".nqx"),
    "orb": Family(
        loader="calculators.orb",
        package="orb_models",
        distribution="orb-models",
        suffix=".ckpt",
        extra="orb",
    ),
    "uma": Family(
        loader="calculators.uma",
        package="fairchem",
        distribution="fairchem-core",
        suffix=".pt",
        extra="fairchem",
    ),
}
