"""Runs: their directories, checkpoints, processes, and studies of many."""
