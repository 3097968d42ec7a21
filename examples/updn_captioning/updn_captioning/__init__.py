"""Bottom-Up Top-Down image captioning with HINT, from official files to figures."""
