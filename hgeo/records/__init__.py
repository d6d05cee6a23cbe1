"""What a run writes: rows of CSV files, read back and repaired."""
