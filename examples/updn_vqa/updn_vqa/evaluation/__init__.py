"""Evaluating and explaining a trained network."""
