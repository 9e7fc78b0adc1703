"""Readers of files: matrices, texts and tables."""
