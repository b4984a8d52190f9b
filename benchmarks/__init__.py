"""Speed benchmarks. Each one measures a stated reference in the same run."""
