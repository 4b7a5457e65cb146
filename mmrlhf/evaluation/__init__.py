"""What training did: measures of the reward model and of every policy, their trade-offs, and the report of a
run."""
