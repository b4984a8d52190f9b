"""Data sets: readers of each kind of data set, which fill one common manifest."""
