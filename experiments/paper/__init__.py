"""The paper's experiments, one file each, by the names of its tables, figures and theorems."""
