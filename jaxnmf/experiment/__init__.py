"""Studies from the command line: their configuration, jobs, store and report."""
