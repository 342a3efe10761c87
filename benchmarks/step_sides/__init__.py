"""The parts of ``train_step.py``: what is trained, both sides, and the plain step in parts."""
