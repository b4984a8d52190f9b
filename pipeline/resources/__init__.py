"""What a job costs: operations, memory, time."""
