"""Running of stages: arguments, devices, processes and progress."""
