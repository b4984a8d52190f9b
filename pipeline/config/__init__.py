"""Configuration: schema, presets, defaults and error messages."""
