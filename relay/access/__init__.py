"""Who may read what is kept, and what happens to it: decisions, no I/O and no clock."""
