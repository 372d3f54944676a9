"""Crystals to learn from: tables, datasets and labels."""
