"""The folder of a study: its jobs as files that are complete or absent."""
