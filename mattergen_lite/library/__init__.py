"""Candidate libraries: results as databases that others can search, others' databases as input."""
