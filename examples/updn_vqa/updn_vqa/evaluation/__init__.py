"""What a trained network answers, and why."""
