"""Loggers: where a run is shown beside its own files."""
