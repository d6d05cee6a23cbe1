"""Full diagonals by units: one Hessian-vector product for all inputs of a unit."""
