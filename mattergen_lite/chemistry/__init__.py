"""Elements and their oxidation states."""
