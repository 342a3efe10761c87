"""Config to objects: where the configs lie, how they compose, what is checked, what a run records."""
