"""Remote-sensing image-text retrieval with PyTorch Lightning: FISVL and what builds on it."""

__version__ = "0.1.0"
