"""Scores: pure functions on label images."""
