"""One run: updates, checkpoints, records and stops; it knows no config."""
