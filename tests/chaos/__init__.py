"""Faults that really happen, at seeded random moments, and what must be true afterwards. `make chaos` runs it."""
