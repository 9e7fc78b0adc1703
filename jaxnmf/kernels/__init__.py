"""Steps that solvers share: coordinate descent, multiplicative updates, step sizes."""
