"""Targets, paths, settings and digests of a configuration."""
