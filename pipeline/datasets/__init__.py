"""Data sets: what each kind's files say, brought into one manifest."""
