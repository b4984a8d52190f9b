"""Refinement: from class maps to pseudo-labels, as pure functions on arrays."""
