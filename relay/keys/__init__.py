"""The region's keys: files that the process reads, and what they seal, wrap and sign."""
