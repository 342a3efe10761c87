"""Checkpoints of runs: finding, reading and checking them."""
