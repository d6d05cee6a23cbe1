"""Small models of other people's packages, on which the chooser of modes keeps its promise."""
