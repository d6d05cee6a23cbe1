"""Full diagonals by units: a Hessian-vector product gives the entries of all inputs of a unit."""
