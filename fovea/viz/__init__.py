"""Pictures: curves, gaze paths, what the model saw."""
