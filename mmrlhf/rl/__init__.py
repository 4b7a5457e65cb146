"""The mathematics of PPO, as pure functions, and rollouts."""
