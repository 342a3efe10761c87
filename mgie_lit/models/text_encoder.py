"""CLIP's text encoder, which tells the UNet of InstructPix2Pix and of Stable Diffusion what to do."""

from __future__ import annotations

from transformers import CLIPTextConfig, CLIPTextModel

# As SD-1.5's config has them. They place the pooled state, which no UNet here reads; the tokenizer's own ids hold.
BOS_ID, PAD_ID, EOS_ID = 0, 1, 2


def make_text_encoder(
    *,
    vocab_size: int,
    hidden_size: int,
    intermediate_size: int,
    num_hidden_layers: int,
    num_attention_heads: int,
    max_position_embeddings: int,
    hidden_act: str = "quick_gelu",
    layer_norm_eps: float = 1e-5,
) -> CLIPTextModel:
    """A text encoder with random weights, drawn from torch's global state.

    Args:
        vocab_size: Rows of the table of word embeddings; at least the tokenizer's tokens.
        hidden_size: Width; that of the UNet's cross-attention.
        intermediate_size: Width of the feed-forward layers.
        num_hidden_layers: Layers.
        num_attention_heads: Heads.
        max_position_embeddings: Length of every text in tokens, with begin, end and padding.
        hidden_act: Activation; ``quick_gelu`` in OpenAI's CLIP.
        layer_norm_eps: Added to variances.

    Returns:
        transformers' ``CLIPTextModel``.
    """
    config = CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        max_position_embeddings=max_position_embeddings,
        hidden_act=hidden_act,
        layer_norm_eps=layer_norm_eps,
        bos_token_id=BOS_ID,
        pad_token_id=PAD_ID,
        eos_token_id=EOS_ID,
    )
    return CLIPTextModel(config)
