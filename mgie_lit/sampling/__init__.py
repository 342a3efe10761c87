"""Sampling: noise and a condition -> an edited image."""
