"""The potentials of a judge: who relaxes, who decides, and what is known about their errors."""

from collections.abc import Mapping
from dataclasses import dataclass

from mattergen_lite.options.judge import JudgeOptions
from mattergen_lite.scoring.energy.calibration import (
    Calibration,
    calibrations,
    read_calibrations,
    uncalibrated,
)
from mattergen_lite.scoring.energy.potentials.acceptance_test import (
    acceptance_of,
    accepted_potential,
    identified,
)
from mattergen_lite.scoring.energy.potentials.sources import (
    SHIPPED,
    PotentialSource,
    check_potential,
    potential_name,
    potential_source,
)
from mattergen_lite.scoring.energy.stability import Measurement, Stability, assess


@dataclass(frozen=True, kw_only=True)
class PotentialSet:
    """The potentials of a judge, each of which has passed the acceptance test."""

    relaxer: PotentialSource
    decider: PotentialSource  # about the energy of what relaxed
    second_opinion: PotentialSource | None  # is compared with it
    calibrated: Mapping[str, Calibration]  # by name; at least references of the elements

    @classmethod
    def of(cls, options: JudgeOptions, device: str = "cpu") -> "PotentialSet":
        """The potentials that the options name.

        Those with weights in wheels are not loaded here: their acceptance tests are in the package.

        Raises:
            ValueError: If one is unknown, cannot be loaded or is not accepted, or the file of
                calibrations cannot be read.
        """
        asked = [options.potential, options.second_opinion, options.relaxer]
        chosen = [None if potential is None else potential_source(potential) for potential in asked]
        for source in chosen:
            if source is not None:
                check_potential(source)
        decider, second, relaxer = (choice and identified(choice) for choice in chosen)
        sources = dict.fromkeys(
            potential for potential in (decider, second, relaxer) if potential is not None
        )
        known = dict(calibrations())
        if options.calibration is not None:
            known |= read_calibrations(options.calibration)
        for source in sources:
            name = potential_name(source)
            if source not in SHIPPED:
                accepted_potential(source, device)
            if name not in known:
                references = acceptance_of(source).references
                known[name] = uncalibrated(references, potential_name(relaxer))
        return cls(
            relaxer=relaxer,
            decider=decider,
            second_opinion=None if second == decider else second,
            calibrated=known,
        )

    @property
    def asked(self) -> tuple[PotentialSource, ...]:
        """Who is asked for the energy of what relaxed; the first decides."""
        given = (self.decider, self.second_opinion)
        return tuple(potential for potential in given if potential is not None)

    def assess(self, measured: Measurement, *, known: bool = False) -> Stability:
        """Judge the stability of a measured crystal; known ones are in the training data."""
        names = [potential_name(potential) for potential in self.asked]
        return assess(
            measured,
            decider=names[0],
            second_opinion=names[1] if len(names) > 1 else None,
            known=known,
            calibrated=self.calibrated,
        )
