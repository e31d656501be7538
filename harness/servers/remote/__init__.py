"""A server that somebody else runs."""
