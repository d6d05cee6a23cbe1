"""Linear networks: their training, closed forms and the theorems' experiments."""
