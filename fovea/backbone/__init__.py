"""Backbones: patches, windows and a state become the next state."""
