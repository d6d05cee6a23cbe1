"""Curvature besides the Hessian's: losses whose Hessian is the matrix that is asked for."""
