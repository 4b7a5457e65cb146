"""The mixture: which records stay, and in which order they come."""
