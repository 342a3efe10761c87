"""Helpers for tests of the framework and of what is built on it: tiny systems and random examples."""
