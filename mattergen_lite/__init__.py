"""mattergen_lite: design inorganic crystals on a laptop. See README.md for the tour."""
