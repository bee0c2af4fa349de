"""Each names the one that it follows in `down_revision`. A step that was released never changes."""
