"""The study on disk: its format, how it is built, and who sees what."""
