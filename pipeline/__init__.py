"""Weakly supervised semantic segmentation: pixel masks from image-level labels."""
