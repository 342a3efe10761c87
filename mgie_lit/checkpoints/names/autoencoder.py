"""Names of diffusers' ``AutoencoderKL``, which its first versions called otherwise in the attention blocks."""

from __future__ import annotations

import re

from mgie_lit.checkpoints.names.rules import Format

_NEW_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD = re.compile(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\..*)")


def to_ours(name: str) -> str | None:
    """Name in diffusers, old or new -> name in our autoencoder.

    >>> to_ours("encoder.mid_block.attentions.0.proj_attn.bias")
    'encoder.mid_block.attentions.0.to_out.0.bias'
    """
    old = _OLD.fullmatch(name)
    return f"{old[1]}{_NEW_NAMES[old[2]]}{old[3]}" if old else name


AUTOENCODER = Format("diffusers' AutoencoderKL", to_ours, str)
