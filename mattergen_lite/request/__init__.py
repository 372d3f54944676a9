"""What a user asks of every sample, as objects."""
