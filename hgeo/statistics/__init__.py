"""Statistics of a layer's curvature and weights, as pure functions of arrays."""
