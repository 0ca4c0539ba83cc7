"""What people do with dead letters: look at them, set them aside, have their rows judged again and brought back."""
