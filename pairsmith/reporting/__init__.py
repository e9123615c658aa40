"""TO DO."""
