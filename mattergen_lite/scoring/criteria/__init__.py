"""Criteria of one crystal that need no potential."""
