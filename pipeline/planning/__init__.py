"""From a configuration to targets, paths, settings and digests."""
