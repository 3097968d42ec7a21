"""The captioner, and how it says captions."""
