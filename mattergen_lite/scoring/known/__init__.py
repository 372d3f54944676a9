"""Known structures and the convex hull."""
