"""What the Bottom-Up Top-Down pipelines share."""
