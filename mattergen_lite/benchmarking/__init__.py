"""The published protocols, and our figures beside them."""
