"""Evaluate and refine class activation maps."""
