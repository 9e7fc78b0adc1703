"""How sure a factorisation is: replicates, intervals, displaced entries."""
