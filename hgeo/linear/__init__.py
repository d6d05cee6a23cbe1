"""Training of linear networks as the paper's theory writes it, many seeds at once, in float64."""
