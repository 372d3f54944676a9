"""Groups of options in the help, in their order: what is asked first, how it is done last."""

HELP_GROUPS = {
    "Run": ("out", "overwrite", "device", "num_workers", "verbose"),
    "How many": (
        *("num_samples", "num_candidates", "max_samples", "time_budget", "seed", "first_sample"),
    ),
    "Target": ("condition", "guidance", "stability_guidance", "probe", "measured_by"),
    "Composition": (
        *("elements", "must_contain", "chemical_system", "exclude", "fraction"),
        *("formula", "formula_units", "num_atoms"),
    ),
    "Symmetry and host": ("space_group", "seed_structure", "fix_sites", "fix_lattice", "insert"),
    "The best": (
        *("shortlist", "phonons", "bulk_modulus", "verify", "verify_minutes"),
        *("dft_inputs", "dft_codes", "dft_sets", "incar"),
    ),
    "Judge": (
        *("relax", "potential", "second_opinion", "relaxer", "calibration", "energies"),
        *("reference", "require", "keep", "relax_at_most", "control", "time_limit"),
    ),
    "Sampler": (
        *("propose", "checkpoint", "frameworks", "steps", "solver", "eta", "s_churn", "s_noise"),
        *("strength", "template_bias", "batch_size", "precision"),
    ),
}
