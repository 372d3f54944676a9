"""The denoising network: tensors in, tensors out; it knows nothing of noise processes or files."""
