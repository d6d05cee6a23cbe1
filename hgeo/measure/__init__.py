"""Named statistics of layers, measured together, and the monitor of any training loop."""
