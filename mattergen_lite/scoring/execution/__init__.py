"""Spreads judging over processes and stores its results."""
