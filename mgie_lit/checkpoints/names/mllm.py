"""Names of our own ``MLLM`` part, as an export folder holds it."""

from __future__ import annotations

from mgie_lit.checkpoints.names.rules import Format

MLLM_PART = Format("an export's mllm", str, str)
