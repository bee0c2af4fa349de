"""Shell: recordings on disk."""
