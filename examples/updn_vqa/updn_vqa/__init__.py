"""Bottom-Up Top-Down visual question answering with HINT."""
