"""The objective: losses, penalties, constraints, offsets, and the problem of them."""
