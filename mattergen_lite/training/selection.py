"""Selects weights by a few of their samples, judged as candidates are."""

from mattergen_lite.model import CrystalDiffusion
from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.options.sampler import SamplerOptions
from mattergen_lite.processes import Pool, available_cores
from mattergen_lite.sampling.generator import stable
from mattergen_lite.sampling.sampler import Target, sample
from mattergen_lite.scoring.execution.result_cache import ResultCache
from mattergen_lite.scoring.execution.stopwatch import Stopwatch
from mattergen_lite.scoring.judge import Judge
from mattergen_lite.scoring.metrics.summary import summary

STEPS = 50
STABILITY_GUIDANCE = 2.0
SEED = 0  # the same noise every time: what differs is the weights


def expected_credible_msun(model: CrystalDiffusion, *, num_samples: int = 64) -> float:
    """Share of samples that are expected to be credible, metastable, unique and novel.

    A sum of probabilities, because a hard count of so few samples would select by luck; metastable,
    because strictly stable ones are rare. CHGNet relaxes and decides, for speed.
    """
    device = str(next(model.parameters()).device)
    judge = Judge.of(JudgeOptions(potential="chgnet", second_opinion=None), device=device)
    numbers, auxiliary = range(num_samples), stable(model, (), STABILITY_GUIDANCE)
    options = SamplerOptions(steps=STEPS)
    samples = sample(
        model, numbers, seed=SEED, options=options, target=Target(auxiliary_targets=auxiliary)
    )
    with Pool(available_cores()) as pool:
        result_cache = ResultCache(pool, progress=False)
        candidates = judge.judge(samples.records(numbers), result_cache, Stopwatch())
    figures = summary(candidates).stability
    return figures.expected_credible_msun if figures else 0.0
