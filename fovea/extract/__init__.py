"""Patch extractors: images become a scene that windows are read from."""
