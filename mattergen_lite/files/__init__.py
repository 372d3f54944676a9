"""Folders of results and plain YAML."""
