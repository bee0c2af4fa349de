"""The commands of `relay` that came in groups: each module is one group, `cli` joins them."""
