"""Statistics of layers by name, and the monitor for any training loop."""
