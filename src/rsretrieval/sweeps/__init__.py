"""Sweeps without a server: the file of ``wandb sweep``, its trials by Optuna, their results as a table and pictures."""
