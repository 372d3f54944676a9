"""One optimisation step: what of a batch is shown, its losses, the optimiser."""

import pytorch_lightning as pl
import torch
from torch import Tensor

from mattergen_lite.config import LossConfig, OptimizerConfig, RunConfig
from mattergen_lite.data.dataset import LabelledBatch
from mattergen_lite.diffusion.joint import Losses, draw_noise
from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.options.sampler import is_mixed
from mattergen_lite.properties import Conditions
from mattergen_lite.symmetry.templates import OrbitCrystals, classes_by_element
from mattergen_lite.tensors.crystal import Share
from mattergen_lite.tensors.shapes import Bool, Float


class TrainingModule(pl.LightningModule):
    """One optimisation step as Lightning runs it."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        self.seed = config.seed
        self.loss_config: LossConfig = config.loss
        self.optimizer_config: OptimizerConfig = config.optimizer
        self.model = CrystalDiffusion(config.model)
        self.model.denoiser.drop_types.p = config.loss.type_dropout
        precision = config.trainer.precision
        self.model.mixed_precision = is_mixed(precision, on_gpu=torch.cuda.is_available())
        if config.trainer.compile:
            compile_blocks(self.model)

    def training_step(self, batch: LabelledBatch, batch_idx: int) -> Float[Tensor, ""]:
        """Weighted sum of the channel losses of one batch."""
        rng = self._rng(self.global_step)
        # Dropout draws from the process: a resumed run must draw the same, its neighbours others.
        torch.manual_seed(rng.initial_seed() + self.global_rank)
        conditions = drop_conditions(batch.conditions, self.loss_config, rng, batch.share)
        crystals = vary(batch.crystals, self.loss_config, rng, batch.share)
        losses = drawn_losses(self.model, crystals, conditions, rng, batch.share)
        return self._logged_loss("train", losses)

    def validation_step(self, batch: LabelledBatch, batch_idx: int) -> None:
        """Loss of the averaged weights at the same noise every time; only the focus is shown."""
        focus = self.loss_config.focus
        conditions = batch.conditions.only(focus) if focus else None
        rng = self._rng(-1 - batch_idx)
        losses = drawn_losses(self.model, batch.crystals, conditions, rng, batch.share)
        self._logged_loss("val", losses)

    def _logged_loss(self, stage: str, losses: Losses) -> Float[Tensor, ""]:
        means = {name: getattr(losses, name).mean() for name in ("types", "coords", "lattice")}
        total = sum(getattr(self.loss_config, name) * value for name, value in means.items())
        if stage == "train" and (self.global_step + 1) % self.trainer.log_every_n_steps:
            return total  # not a step that is written: talking of it would hold up the device
        for name, value in {**means, "total": total}.items():
            self.log(
                f"{stage}/{name}",
                value,
                prog_bar=name == "total",
                batch_size=len(losses.types),
                sync_dist=True,
            )
        return total

    def _rng(self, step: int) -> torch.Generator:
        """Noise of one step of the global batch, the same whenever and wherever it is computed."""
        return torch.Generator(self.device).manual_seed((self.seed * 1_000_003 + step) % 2**63)

    def configure_optimizers(self) -> dict[str, object]:
        """AdamW; decay on matrices only."""
        config = self.optimizer_config
        matrices = [p for p in self.parameters() if p.dim() > 1]
        vectors = [p for p in self.parameters() if p.dim() <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=config.betas,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, config)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def drawn_losses(
    model: CrystalDiffusion,
    crystals: OrbitCrystals,
    conditions: Conditions | None,
    rng: torch.Generator,
    share: Share | None = None,
) -> Losses:
    """Denoising losses at freshly drawn noise levels of a batch, or of a share of one.

    Noise is drawn for the global batch, in every process the same, and then shared out.
    """
    share, templates = share or Share.whole(len(crystals)), crystals.templates
    sigma = model.schedule.draw(share.total, rng)[share.rows]
    normal = draw_noise(templates, rng, share.total)[share.rows]
    return model.losses(crystals, sigma, model.diffusion.noise(normal, templates), conditions)


def compile_blocks(model: CrystalDiffusion) -> None:
    """Compile the transformer blocks for batches of any shape.

    One piece of code serves them all, in a minute; the network as a whole takes many. Where
    compiling fails, for want of a C++ compiler for example, they run as they are with a warning.
    """
    torch._dynamo.config.suppress_errors = True
    for block in model.denoiser.blocks:
        block.compile(dynamic=True)


def learning_rate_factor(step: int, config: OptimizerConfig) -> float:
    """Share of the peak learning rate at a step: up, constant, and down to zero at the end."""
    rising = (step + 1) / config.warmup_steps if step < config.warmup_steps else 1.0
    decay_steps = min(config.decay_steps, config.max_steps)
    falling = (config.max_steps - step) / max(decay_steps, 1)
    return max(min(rising, falling, 1.0), 0.0)


def vary(
    crystals: OrbitCrystals, config: LossConfig, rng: torch.Generator, share: Share
) -> OrbitCrystals:
    """The same crystals as they may also be given: other representatives, classes known or not."""

    def uniform(*size: int) -> Float[Tensor, "B *S"]:
        return torch.rand(share.total, *size, generator=rng, device=rng.device)[share.rows]

    known = uniform() >= config.hide_classes
    crystals = crystals.with_random_representatives(uniform(crystals.templates.mask.shape[1]))
    return crystals.with_classes(classes_by_element(crystals.atomic_numbers), known)


def drop_conditions(
    conditions: Conditions, config: LossConfig, rng: torch.Generator, share: Share | None = None
) -> Conditions:
    """Hide all properties of some crystals and some properties of the others.

    What classifier-free guidance needs (Ho and Salimans 2022, arXiv 2207.12598).
    """
    flags = list(conditions.present.values())
    if not flags:
        return conditions
    share = share or Share.whole(len(flags[0]))

    def coin(probability: float) -> Bool[Tensor, "B"]:
        drawn = torch.rand(share.total, generator=rng, device=rng.device)
        return drawn[share.rows] >= probability

    conditional = coin(config.drop_all)
    keep = {
        name: coin(config.drop[name])
        if name in config.drop
        else conditional & coin(config.drop_each)
        for name in conditions.present
    }
    if config.focus:
        taught = conditions.only(config.focus).present
        alone = torch.stack(list(taught.values())).any(0) & ~coin(0.5)
        keep = {name: flag & ~alone for name, flag in keep.items()}
        keep |= dict.fromkeys(taught, conditional)
    return conditions.dropped(keep)
