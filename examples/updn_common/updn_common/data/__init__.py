"""What the data of both tasks have in common."""
