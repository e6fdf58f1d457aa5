"""Benchmarks: speed and exactness beside the alternatives, in one run, with limits to hold."""
