"""HTTP: the demonstration page, and later the operator's API."""
