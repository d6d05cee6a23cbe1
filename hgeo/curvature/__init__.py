"""Losses whose Hessian is another curvature matrix: Gauss-Newton, Fisher, preconditioned."""
