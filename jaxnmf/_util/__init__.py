"""Helpers shared by all packages: argument checks, names, files, progress bars."""
