"""Methods, their losses, and the training loop."""
