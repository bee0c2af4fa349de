"""Shell: the native media engine and its UDP ports."""
