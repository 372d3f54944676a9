"""Repeats generating, judging and training."""
