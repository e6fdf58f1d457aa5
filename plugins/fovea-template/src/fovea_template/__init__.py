"""A plugin for fovea with one small component of each kind, to copy from.

Each folder is the whole of a plugin: its hook, its settings and its component.
"""
