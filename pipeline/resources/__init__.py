"""Cost of jobs: operations, memory and time."""
