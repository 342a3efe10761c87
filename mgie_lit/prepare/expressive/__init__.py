"""Expressive instructions for data sets without them: asked of an (M)LLM, cleaned, shortened (arXiv:2309.17102)."""
