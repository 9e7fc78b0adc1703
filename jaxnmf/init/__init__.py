"""Initial factors: random, from the SVD of V, or from rows of V."""
