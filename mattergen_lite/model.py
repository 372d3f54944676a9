"""The model: network and diffusion put together; its loss, its denoising step, its files.

A model on disk is a folder: `weights*.safetensors` (tensors only, nothing that can execute),
`config.yaml` (how to rebuild the network) and `model_card.md`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mattergen_lite.chemistry.elements import MAX_ATOMIC_NUMBER, symbols
from mattergen_lite.config import ModelConfig, write_yaml
from mattergen_lite.data.dataset import OrbitDataset
from mattergen_lite.diffusion.joint import JointDiffusion, Losses, State, Step
from mattergen_lite.diffusion.lattice import SIGMA_DATA
from mattergen_lite.diffusion.schedule import NoiseSchedule, scalings
from mattergen_lite.hub import CONFIG, WEIGHTS, read_config
from mattergen_lite.network.denoiser import Denoiser, NoisyCrystals
from mattergen_lite.network.pairs import pair_features
from mattergen_lite.properties import Conditions
from mattergen_lite.symmetry.templates import OrbitCrystals, Templates
from mattergen_lite.tensors.crystal import Prediction
from mattergen_lite.tensors.shapes import Bool, Float


class CrystalDiffusion(nn.Module):
    """A denoiser and the noise process it was trained for."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.mixed_precision = False  # run the network, and only the network, in bfloat16
        self.properties = config.properties
        self.schedule = NoiseSchedule(**config.noise.model_dump())
        self.diffusion = JointDiffusion()
        self.denoiser = Denoiser(**config.network.model_dump(), properties=self.properties)

    def fit(self, data: OrbitDataset) -> None:
        """Learn cell statistics and the set of elements from training crystals."""
        self.diffusion.lattice.fit(data.lattice, data.space_group, data.num_atoms)
        seen = torch.bincount(data.atomic_numbers, minlength=MAX_ATOMIC_NUMBER + 1)
        self.diffusion.allowed_elements.copy_(seen > 0)

    def allowed(self, wanted: Bool[Tensor, "Z"]) -> Bool[Tensor, "Z"]:
        """The wanted elements, all of which the model must have seen in training.

        Raises:
            ValueError: If one of them never occurred; the message names it.
        """
        unseen = (
            wanted.to(self.diffusion.allowed_elements.device) & ~self.diffusion.allowed_elements
        )
        if unseen.any():
            names = ", ".join(symbols()[int(z)] for z in unseen.nonzero())
            raise ValueError(f"this model has never seen {names}: it cannot place such atoms")
        return wanted

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.diffusion.lattice.mean.device

    def predict(
        self,
        noisy: State,
        sigma: Float[Tensor, "B"],
        templates: Templates,
        conditions: Conditions | None,
    ) -> Prediction:
        """Predict the clean crystals, from noisy ones."""
        return self.predict_each(noisy, sigma, templates, [conditions])[0]

    def predict_each(
        self,
        noisy: State,
        sigma: Float[Tensor, "B"],
        templates: Templates,
        conditions: Sequence[Conditions | None],
    ) -> list[Prediction]:
        """What the network says about the same noisy crystals under each of several conditions."""
        inputs = self._inputs(noisy, sigma, templates)
        with torch.autocast(sigma.device.type, torch.bfloat16, enabled=self.mixed_precision):
            return [self.denoiser(inputs, condition) for condition in conditions]

    def features(
        self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates
    ) -> Float[Tensor, "B D"]:
        """Pooled hidden state of noisy crystals, differentiable: what probes are fitted on.

        Always in full precision: properties are read from it.
        """
        return self.denoiser.features(self._inputs(noisy, sigma, templates))

    def _inputs(
        self, noisy: State, sigma: Float[Tensor, "B"], templates: Templates
    ) -> NoisyCrystals:
        """Noisy crystals scaled to unit size."""
        inp = scalings(sigma, SIGMA_DATA).inp
        return NoisyCrystals(
            templates=templates,
            types=noisy.types * inp[:, None, None],
            guess=self.diffusion.type_guess(noisy, sigma, templates),
            geometry=pair_features(
                templates.representatives(noisy.free_coords),
                self.diffusion.lattice_guess(noisy, sigma, templates),
                templates,
            ),
            cell=noisy.cell * inp[:, None],
            noise_level=sigma.log() / 4,
        )

    def losses(
        self,
        crystals: OrbitCrystals,
        sigma: Float[Tensor, "B"],
        noise: Step,
        conditions: Conditions | None,
    ) -> Losses:
        """Denoising losses of crystals at given noise levels with given noise of unit size."""
        clean = self.diffusion.encode(crystals)
        noisy = self.diffusion.corrupt(clean, sigma, noise)
        prediction = self.predict(noisy, sigma, crystals.templates, conditions)
        return self.diffusion.losses(prediction, crystals, clean, noisy, sigma)

    def save(self, folder: Path) -> None:
        """Write weights (bfloat16 network, float32 statistics) and configuration into a folder."""
        parameters = {name for name, _ in self.named_parameters()}
        tensors = {
            name: value.detach().bfloat16() if name in parameters else value
            for name, value in self.state_dict().items()
        }
        write_weights(tensors, folder / WEIGHTS)
        write_yaml(self.config, folder / CONFIG)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "CrystalDiffusion":
        """Read a model folder; nothing in it is executed.

        Raises:
            ValueError: If a file is missing or corrupt, or the weights do not fit the config.
        """
        model = cls(read_config(folder))
        load_weights(model, folder)
        device = torch.device(device)
        model.mixed_precision = device.type == "cuda"
        return model.to(device).eval()

    def start_from(self, folder: Path) -> None:
        """Take over the weights of a model that may know fewer properties.

        The embeddings of the others stay as they are; as they start at zero, this model then
        predicts what that one does, whatever the value of a new property.

        Raises:
            ValueError: If the weights are missing, corrupt or of another architecture.
        """
        embeddings = self.denoiser.embed_global.properties
        own = embeddings.state_dict(prefix="denoiser.embed_global.properties.")
        load_weights(self, folder, own)


def pick_device(name: str) -> torch.device:
    """A torch device; "auto" takes a GPU if there is one.

    Raises:
        ValueError: If torch knows no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # which "meta" has not
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0][:200]
        raise ValueError(f"device {name!r} cannot be used: {reason}") from None
    return device


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        ValueError: If the file is missing, truncated or of another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"cannot read weights {path}: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"weights {path} are damaged: {name} has values that are no numbers")
    return tensors


def load_weights(
    network: torch.nn.Module, folder: Path, own: Mapping[str, Tensor] | None = None
) -> None:
    """Give a network the weights of a folder, over some of its own that the folder may lack.

    Raises:
        ValueError: If the weights are missing, corrupt or of another architecture.
    """
    try:
        network.load_state_dict({**(own or {}), **read_weights(folder / WEIGHTS)})
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(f"weights in {folder} do not fit the configuration: {reason}") from None


def write_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as a safetensors file, in a folder that is made if it does not exist."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, path)
    path.chmod(0o644)  # safetensors makes it private to its owner


def weights_hash(folder: Path) -> str:
    """SHA-256 of the weights file: the model's identity in provenance records."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def model_provenance(model: CrystalDiffusion, folder: Path) -> dict[str, object]:
    """What a record needs to name the model of a folder: weights, training data, architecture."""
    return {
        "weights_sha256": weights_hash(folder),
        "data_sha256": model.config.data_sha256,
        "model": model.config.model_dump(mode="json"),
    }
