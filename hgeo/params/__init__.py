"""The params of a model as layers, coordinates and directions."""
