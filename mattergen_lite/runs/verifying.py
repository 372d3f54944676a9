"""Verifies the best candidates of a run by first principles; their energies decide."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial

from mattergen_lite.console import ProgressBar
from mattergen_lite.dft.cache import ResultFolder, default_folder
from mattergen_lite.dft.engine import JobLimits
from mattergen_lite.dft.engines import find_engine
from mattergen_lite.dft.plan import VerificationPlan
from mattergen_lite.dft.verification import Verification, Verifier
from mattergen_lite.options.verification import VerifyOptions
from mattergen_lite.processes import Failure, Pool
from mattergen_lite.scoring.candidate import Candidate
from mattergen_lite.scoring.decided import decide
from mattergen_lite.scoring.energy.first_principles import FirstPrinciples
from mattergen_lite.scoring.execution.result_cache import structure_identity

DAY = 86_400.0  # s; each calculation has a limit of its own
SLACK = 10.0  # times the estimate that a calculation may take


# Name and raw structure of a candidate, whatever its rank.
Identity = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class VerifyingRun:
    """Verifier, options and processes, each of which runs the program of the engine."""

    options: VerifyOptions
    pool: Pool

    @cached_property
    def verifier(self) -> Verifier:
        """Verifier with the limits of the options.

        Raises:
            ValueError: If there is no such engine, or it is not installed.
        """
        engine = find_engine(self.options.engine)
        engine.check_installed()
        return Verifier(
            engine=engine,
            results=ResultFolder(self.options.cache or default_folder()),
            limits=JobLimits(
                seconds=max(600.0, SLACK * 60 * self.options.max_minutes),
                memory=int(self.options.memory * 2**30),
            ),
            relax=self.options.relax,
        )

    def verify(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Verify candidates, best first; the others stay as they are, and so does the order.

        Raises:
            ValueError: As `calculate`.
        """
        return decided(candidates, self.calculate(candidates))

    def calculate(self, candidates: Sequence[Candidate]) -> dict[Identity, Verification]:
        """Verify candidates, best first; of several processes each takes what no other has begun.

        Raises:
            ValueError: If a named candidate does not exist, or structures were predicted, whose
                energies are compared with those that a potential has for known ones.
        """
        if any(candidate.goal != "discover" for candidate in candidates):
            raise ValueError("verify: expected a run of `generate` or `score`")
        budget = self.options.time_budget
        deadline = float("inf") if budget is None else time.time() + 60 * budget
        results, plans = self._planned(candidates)
        self._announce(plans)
        with ProgressBar(total=len(plans), unit="verify", file=sys.stderr) as bar:
            for waits in (False, True):
                left = [position for position in plans if position not in results]
                work = partial(_carry_out, self.verifier, deadline, waits)
                tasks = [plans[position] for position in left]
                for index, result in self.pool.stream(work, tasks, time_limit=DAY):
                    if result is not None:
                        is_failure = isinstance(result, Failure)
                        results[left[index]] = self._failure(result) if is_failure else result
                        bar.update()
        return {
            _identity(candidates[position]): verification
            for position, verification in results.items()
        }

    def _failure(self, failure: Failure) -> Verification:
        return Verification(formula="", method=self.verifier.method, error=failure.reason)

    def _planned(
        self, candidates: Sequence[Candidate]
    ) -> tuple[dict[int, Verification], dict[int, VerificationPlan]]:
        """Refusals and plans by position in the candidates, until enough are planned."""
        chosen = self.options.names
        number = self.options.top if chosen is None else len(chosen)
        refusals: dict[int, Verification] = {}
        plans: dict[int, VerificationPlan] = {}
        for position in _looked_at(candidates, chosen):
            if len(plans) == number:
                break
            try:
                plans[position] = self._plan(candidates[position])
            except ValueError as error:
                refusals[position] = self._failure(Failure(str(error)))
        return refusals, plans

    def _plan(self, candidate: Candidate) -> VerificationPlan:
        """Raise ValueError if a candidate cannot be calculated, or is too dear."""
        structure = candidate.final_structure
        if structure is None or not structure.is_ordered:
            raise ValueError("its sites are partly occupied: expected an ordered crystal")
        if candidate.relaxed_structure is None and self.options.names is None:
            raise ValueError("it is not relaxed; crystals named by --names are taken as they are")
        plan = self.verifier.plan(structure)
        minutes = plan.estimated_seconds / 60
        if minutes > self.options.max_minutes:
            raise ValueError(
                f"estimated at {minutes:.0f} core minutes, --max-minutes is "
                f"{self.options.max_minutes:g}"
            )
        return plan

    def _announce(self, plans: dict[int, VerificationPlan]) -> None:
        """Print the estimate before the work, as a range."""
        ranges = [plan.seconds_range for plan in plans.values()]
        formulas = [plan.structure.composition.reduced_formula for plan in plans.values()]
        each = ", ".join(
            f"{formula} {low:.0f} to {high:.0f}"
            for formula, (low, high) in zip(formulas, ranges, strict=True)
        )
        low, high = (sum(bounds) for bounds in zip((0.0, 0.0), *ranges, strict=True))
        ProgressBar.write(
            f"verify with {self.verifier.method}: {len(plans)} crystals, {low:.0f} to {high:.0f} "
            f"core s, the higher if crystals fail and a second reaction confirms it ({each})",
            file=sys.stderr,
        )


def _looked_at(candidates: Sequence[Candidate], chosen: Sequence[str] | None) -> list[int]:
    """Positions of candidates in the order in which they are verified."""
    if chosen is None:
        return [index for index, candidate in enumerate(candidates) if candidate.raw.error is None]
    names = [candidate.raw.name for candidate in candidates]
    for name in chosen:
        if names.count(name) != 1:
            number = names.count(name) or "no"
            raise ValueError(
                f"{number} candidate {name!r} in the table: expected the name of a single row"
            )
    return [names.index(name) for name in chosen]


def decided(
    candidates: Sequence[Candidate], results: Mapping[Identity, Verification]
) -> list[Candidate]:
    """Candidates of which those with a result have it; an energy decides."""
    known = [results.get(_identity(candidate)) for candidate in candidates]
    return [
        candidate if result is None else decide(candidate, _columns(result), result.dft_structure)
        for candidate, result in zip(candidates, known, strict=True)
    ]


def _identity(candidate: Candidate) -> Identity:
    structure = candidate.structure
    return candidate.raw.name, "" if structure is None else structure_identity(structure)


def _carry_out(
    verifier: Verifier, deadline: float, waits: bool, plan: VerificationPlan
) -> Verification | None:
    """Calculate a crystal; None where another process does and this one does not wait."""
    if time.time() > deadline:
        formula = plan.structure.composition.reduced_formula
        return Verification(formula=formula, method=verifier.method, error="no time left for it")
    key = plan.candidate.starts[0].key(verifier.engine.versions)
    with verifier.results.claim(key, waits=waits) as is_held:
        return verifier.carry_out(plan) if is_held else None


def _columns(verification: Verification) -> FirstPrinciples:
    """Columns dft_*, which are mostly named as the fields of a verification."""
    names = {field.name for field in fields(Verification)}
    same = [
        field.name for field in fields(FirstPrinciples) if field.name[4:] in names - {"reactions"}
    ]
    return FirstPrinciples(
        **{name: getattr(verification, name[4:]) for name in same},
        dft_reactions=tuple(reaction.text for reaction in verification.reactions),
        dft_core_seconds=verification.seconds,
        dft_reference_core_seconds=verification.reference_seconds,
    )
