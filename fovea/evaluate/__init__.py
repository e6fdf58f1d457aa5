"""Evaluation: accuracy per glimpse, kNN, gaze controls, image size."""
