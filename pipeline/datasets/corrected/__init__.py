"""Masks that people corrected in an annotation tool, in the formats that tools write."""
