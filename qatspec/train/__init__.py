"""Training: loops, checkpoints, loading data, evaluating, data-parallel processes."""
