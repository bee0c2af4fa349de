"""Published data that tests compare with."""
