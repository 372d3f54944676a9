"""Confirms properties of relaxed crystals by methods that do not guide the generator."""
