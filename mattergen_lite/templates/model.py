"""The template model: its file, and templates drawn from it."""

from dataclasses import dataclass
from pathlib import Path

from mattergen_lite.config import Section, write_yaml
from mattergen_lite.files.plain_yaml import read_yaml
from mattergen_lite.hub import CONFIG, WEIGHTS
from mattergen_lite.model import load_weights, write_weights
from mattergen_lite.templates.network import TemplateNetwork


class TemplateConfig(Section):
    """Size of the network."""

    dim: int = 128
    depth: int = 5
    num_heads: int = 4


@dataclass(frozen=True)
class TemplateModel:
    """A network of templates and its size."""

    network: TemplateNetwork
    config: TemplateConfig

    @classmethod
    def new(cls, **size: int) -> "TemplateModel":
        """An untrained model."""
        config = TemplateConfig(**size)
        return cls(TemplateNetwork(**config.model_dump()), config)

    def save(self, folder: Path) -> None:
        """Write weights in bfloat16 and the configuration into a folder."""
        state = self.network.state_dict()
        write_weights({name: tensor.bfloat16() for name, tensor in state.items()}, folder / WEIGHTS)
        write_yaml(self.config, folder / CONFIG)

    @classmethod
    def load(cls, folder: Path) -> "TemplateModel":
        """Read a model folder; nothing in it is executed.

        Raises:
            ValueError: If a file is missing or corrupt, or the weights do not fit.
        """
        model = cls.new(**TemplateConfig.parse(read_yaml(folder / CONFIG)).model_dump())
        load_weights(model.network, folder)
        model.network.float().eval()
        return model
