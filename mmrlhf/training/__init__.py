"""The one training loop, the stages it runs, and what it leaves on disk."""
