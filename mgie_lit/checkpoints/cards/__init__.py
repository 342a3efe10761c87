"""Model cards: what an export says about itself in its ``README.md``."""
