"""What an action is: spaces, items with embeddings, candidates."""
