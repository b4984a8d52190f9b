"""Weakly supervised semantic segmentation: image-level labels in, pixel masks out."""
