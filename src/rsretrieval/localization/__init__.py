"""Semantic localisation: where in a large scene something is that a sentence says."""
