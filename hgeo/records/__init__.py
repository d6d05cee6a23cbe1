"""The records of runs and monitors: rows of CSV files, written whole and repaired when read."""
