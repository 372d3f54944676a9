"""The command `calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING

from mattergen_lite.commands.workspace import JUDGE, cores
from mattergen_lite.files.folders import claimed_file
from mattergen_lite.options.checks import Atoms, Count, Paths, Seed, Workers
from mattergen_lite.options.flat import flat
from mattergen_lite.options.judge import PotentialChoice

if TYPE_CHECKING:
    from mattergen_lite.workflows.calibration import Calibrated


@flat
def calibrate(
    *,
    potential: PotentialChoice,
    out: Path,
    labels: Paths = (),
    shifted_labels: Paths = (),
    relaxer: PotentialChoice = "chgnet",
    label: str | None = None,
    limit: Count | None = None,
    num_references: Count = 400,
    num_known: Count = 120,
    max_atoms: Atoms = 12,
    seed: Seed = 1,
    num_workers: Workers | None = None,
) -> "Calibrated":
    """Fit the element references and the errors of a potential; the same command continues.

    Compares the potential with known compounds of the embedded table and with your crystals that
    have DFT energies. Prints its errors on crystals not used for fitting. `--calibration <out>`
    then takes the file, for this potential on crystals relaxed with that relaxer.

    Args:
        potential: As of `score`: a name, a path to weights or module:factory.
        out: The file to write.
        labels: Crystals with DFT energies that the potential was not trained on, such as published
            samples of a generator, in any format that `score` reads and that has numbers: csv or
            parquet with a cif column, extxyz; repeat for several. Without any, novel crystals stay
            uncalibrated.
        shifted_labels: Crystals with energies of other DFT settings than the Materials Project's.
            Shifts by element are fitted to every file and kept out of the calibration.
        relaxer: The potential that relaxes; its own errors are fitted as well.
        label: Column of the DFT energies in eV/atom: above the hull or, if its name has "formation"
            in it, of formation; default decomposition_energy_dft, e_above_hull_dft, e_above_hull,
            formation_energy_per_atom_dft or formation_energy_per_atom, whichever there is.
        limit: Largest number of crystals of every file of labels, from the first.
        num_references: Known compounds for the element references, as they are.
        num_known: Known compounds to relax.
        max_atoms: Of known compounds.
        seed: Of their choice.
        num_workers: Processes; default one a core.

    Raises:
        ValueError: If a potential is not accepted or labels cannot be read; nothing is written.
    """
    from mattergen_lite.processes import Pool

    with claimed_file(out), Pool(cores(num_workers), preload=JUDGE) as pool:
        from mattergen_lite.io.parallel import read_records
        from mattergen_lite.scoring.energy.potentials.acceptance_test import identified
        from mattergen_lite.scoring.energy.potentials.sources import potential_source
        from mattergen_lite.workflows.calibration import CalibrationOptions, labelled
        from mattergen_lite.workflows.calibration import calibrate as run

        options = CalibrationOptions(
            potential=identified(potential_source(potential)),
            relaxer=identified(potential_source(relaxer)),
            num_references=num_references,
            num_known=num_known,
            max_atoms=max_atoms,
            seed=seed,
        )
        files = [*((path, "") for path in labels), *((path, path.stem) for path in shifted_labels)]
        if shifted_labels and not labels:
            raise ValueError(f"--shifted-labels {shifted_labels[0]} alone: expected --labels, too")
        novel = [
            crystal
            for path, name in files
            for crystal in labelled(list(read_records(path, limit, pool)), label, name)
        ]
        return run(options, novel, out, pool)
