"""Context builders: a gaze becomes the windows of one glimpse."""
