"""`python -m experiments.soak`: runs that are killed, damaged and continued for long."""
