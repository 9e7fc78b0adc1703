"""A run on several devices: the mesh, and V and its factors on it."""
