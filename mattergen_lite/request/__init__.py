"""Targets and constraints of a request, as objects."""
