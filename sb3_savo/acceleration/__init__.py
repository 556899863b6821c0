"""What is here for speed alone."""
