"""Statistics: numbers that sum up a layer's curvature and weights."""
