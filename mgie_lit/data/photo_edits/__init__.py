"""Edit pairs made on the fly from photographs and drawn scenes; deterministic from a seed."""
