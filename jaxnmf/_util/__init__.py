"""What every room uses and none is about: checks, names, files, progress."""
