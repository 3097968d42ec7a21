"""Files: found, read, checked and written atomically."""
