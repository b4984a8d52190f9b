"""The published recipe against outputs of its authors' code, on weights that a seed regenerates.

The outputs are numbers in ``.npz`` files, in the folder that WSSS_PUBLISHED names or in
``shared/data/published`` beside the checkout; tests that need them are skipped without.
"""
