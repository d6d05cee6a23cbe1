"""`python -m hgeo.probe_checkpoint`: R_med of a saved checkpoint."""
