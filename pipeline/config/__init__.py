"""Configuration: presets, defaults, and problems in words."""
