"""Sweeps: several trials of a job, one after the other or at once, that a dead one does not stop."""
