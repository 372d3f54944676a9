"""Crystals in and out: records, files and tensors."""
