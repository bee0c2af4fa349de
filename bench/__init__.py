"""One script a figure, each printing one JSON line: `python -m bench.call_cost`."""
