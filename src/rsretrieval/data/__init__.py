"""Data: sources, rows, batches, and the embedded scenes."""
