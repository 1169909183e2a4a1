"""Synthetic people: bodies and gaits by seed, their walks, and the silhouettes that a camera sees."""
