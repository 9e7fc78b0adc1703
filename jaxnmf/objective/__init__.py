"""What is minimised: losses, penalties, constraints, offsets; and the problem."""
