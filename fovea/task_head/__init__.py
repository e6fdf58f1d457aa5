"""Task heads: a state becomes class logits."""
