"""Properties that a small regression on the network's features predicts."""
