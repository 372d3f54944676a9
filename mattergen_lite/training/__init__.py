"""Training with Lightning, which is imported here and nowhere else."""
