"""Judging crystals: one criterion a module, one row a crystal, no knowledge of any model."""
