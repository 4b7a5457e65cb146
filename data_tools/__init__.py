"""Preference data without torch: read, make, check, balance and store it."""
