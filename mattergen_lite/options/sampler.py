"""Options of the sampler."""

from typing import Annotated, Literal

from pydantic import Field

from mattergen_lite.options.checks import BatchSize, options

Solver = Literal["multistep", "heun"]
Precision = Literal["auto", "bf16-mixed", "32-true"]
Frameworks = Literal["any", "known", "new", "drawn"]


def is_mixed(precision: Precision, *, on_gpu: bool) -> bool:
    """Tell whether a network runs in bfloat16; most CPUs only emulate it, many times slower."""
    return precision == "bf16-mixed" or (precision == "auto" and on_gpu)


@options
class SamplerOptions:
    """Settings of the reverse process.

    Attributes:
        steps: Solver steps; more are slower and better.
        solver: multistep takes one network call a step, heun two.
        eta: Noise that multistep puts back at each step: 0 is deterministic, 1 the plain reverse
            diffusion.
        s_churn: Total noise that heun adds before its steps: 0 is deterministic; a step adds at
            most a share of sqrt(2) - 1 to the noise level (EDM).
        s_noise: Scale of that noise in coordinates and cell: 1 is that of the reverse diffusion,
            less gives likelier and less varied geometries.
        strength: Noise to start from: 1 is noise alone; less starts from the known crystal of the
            template, with noise of this strength. Default 0.6. It is 1 without such a crystal:
            around a host, with `space-group none`, and on templates of the template model.
        template_bias: Preference for templates on which samples of earlier runs were credible,
            metastable, unique and novel: their share to this power. 0 draws all known crystals
            alike. Without effect where elements are asked for.
        frameworks: Templates of the samples: known, of known crystals; drawn, of the template
            model, if no known crystal has them; new, these and those of crystals with new
            frameworks that earlier runs made; any, a mixture of known and new. Default any, and
            known where a formula or a property is asked for.
        batch_size: Crystals denoised together.
        precision: Floating-point numbers of the network. bf16-mixed is nearly twice as fast on
            hardware that supports it, such as AVX512-BF16; a sample then depends slightly on its
            batch, by rounding. Default bf16-mixed on GPUs, 32-true on CPUs.
    """

    steps: Annotated[int, Field(ge=2, le=10_000)] = 35
    solver: Solver = "multistep"
    eta: Annotated[float, Field(ge=0, le=1000)] = 8.0
    s_churn: Annotated[float, Field(ge=0, le=1000)] = 40.0
    s_noise: Annotated[float, Field(ge=0, le=10)] = 0.5
    strength: Annotated[float, Field(ge=1e-6, le=1)] | None = None
    template_bias: Annotated[float, Field(ge=0, le=10)] = 3.0
    frameworks: Frameworks | None = None
    batch_size: BatchSize = 64
    precision: Precision = "auto"
