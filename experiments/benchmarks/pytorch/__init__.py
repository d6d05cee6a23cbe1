"""The same measurements by PyTorch and its libraries."""
