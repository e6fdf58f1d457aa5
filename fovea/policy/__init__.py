"""Gaze policies: a state becomes a distribution over the next gaze."""
