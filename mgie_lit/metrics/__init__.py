"""Metrics: how good an edit is, one score a sample; classes hold state, formulas lie in ``functional``."""
