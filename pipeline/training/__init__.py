"""One training loop, with its batches, losses and augmentation."""
