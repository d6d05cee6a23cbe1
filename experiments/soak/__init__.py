"""`python -m experiments.soak`: long series of runs that are killed, damaged and continued."""
