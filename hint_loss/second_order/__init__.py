"""What makes a loss on a gradient cheap and safe: tracked proposals, differentiable kernels, hinted samples alone."""
