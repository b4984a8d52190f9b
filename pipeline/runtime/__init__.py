"""How a stage runs: its arguments, devices, processes and progress."""
