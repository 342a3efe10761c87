"""Neural parts; no Lightning, no Hydra. Each saves and loads like a diffusers model."""
