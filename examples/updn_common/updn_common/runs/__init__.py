"""Training runs: options, steps, checkpoints, directories, processes, and studies of many runs."""
