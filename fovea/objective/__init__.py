"""Self-supervised objectives: a scene becomes a loss."""
