"""What a trained network says, and why."""
