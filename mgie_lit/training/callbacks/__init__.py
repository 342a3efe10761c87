"""Callbacks: they decide when; metrics count, functionals compute."""
