"""What is known: structures and the convex hull."""
