"""Jobs: a data set, a loss and a solver, run once and stored."""
