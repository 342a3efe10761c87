"""The checks of ``benchmarks/parity.py``: ours against recorded runs of the released MGIE code."""
