"""From a request and a model to crystals."""
