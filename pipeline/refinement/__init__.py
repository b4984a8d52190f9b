"""Refinement of maps: pure functions on arrays."""
