"""One config, many runs: plans, shares, probes of checkpoints and reports."""
