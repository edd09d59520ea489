"""A page that shows runs while they train. It reads what runs write; training knows nothing of it."""
