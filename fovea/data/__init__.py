"""Data sets: where images, labels and object positions come from."""
