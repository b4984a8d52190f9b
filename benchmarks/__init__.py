"""Claims of speed, each against a stated rival in the same run."""
