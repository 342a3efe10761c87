"""Latents and vision features made before a training by frozen parts, so that these need not run in every step."""
