"""What may leave the region, and the proof of what did not: cores without I/O and clock."""
