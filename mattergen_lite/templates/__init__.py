"""A generative model of templates: space group, Wyckoff positions and which hold one element."""
