"""Rewards of several objectives: the learned model, its losses, and how they are combined."""
