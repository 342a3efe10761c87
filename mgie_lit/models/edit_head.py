"""Edit head: hidden states of the visual tokens -> cross-attention sequence of the UNet."""

from __future__ import annotations

import warnings

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn


class EditHead(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Sequence-to-sequence transformer with learnt queries (arXiv:2309.17102, section 3.2; names as in ml-mgie).

    Args:
        input_dim: Width of the MLLM's hidden states and word embeddings.
        hidden_dim: Width inside.
        output_dim: Width of the UNet's cross-attention.
        num_queries: Length of the sequence that the UNet sees; 77 as in CLIP's text encoder.
        num_heads: Attention heads.
        num_encoder_layers: Encoder layers.
        num_decoder_layers: Decoder layers.
        feedforward_dim: Width of the feed-forward layers.
        num_stored_embeddings: Word embeddings of so many visual tokens are kept beside the weights, for inference; the
            published MGIE has them, and they differ from its table's rows. 0 = none.
    """

    stored_embeddings: Tensor | None  # (V, input_dim)

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        output_dim: int,
        num_queries: int,
        num_heads: int,
        num_encoder_layers: int,
        num_decoder_layers: int,
        feedforward_dim: int,
        num_stored_embeddings: int = 0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.llm2hid = nn.Linear(input_dim, hidden_dim)
        self.query = nn.Parameter(torch.randn(1, num_queries, hidden_dim))
        with warnings.catch_warnings():  # torch speaks of an inference shortcut that pre-norm layers do not have
            warnings.filterwarnings("ignore", message="enable_nested_tensor")
            self.mapper = nn.Transformer(
                hidden_dim,
                num_heads,
                num_encoder_layers,
                num_decoder_layers,
                feedforward_dim,
                dropout=0.0,
                batch_first=True,
                norm_first=True,
            )
        self.hid2feat = nn.Linear(hidden_dim, output_dim)
        stored = torch.zeros(num_stored_embeddings, input_dim) if num_stored_embeddings else None
        self.register_buffer("stored_embeddings", stored)

    def forward(
        self, hidden_states: Float[Tensor, "B V D"], embeddings: Float[Tensor, "*B V D"]
    ) -> Float[Tensor, "B Q E"]:
        """Condition of the visual tokens (arXiv:2309.17102, eq. 2: ``T({h_i + e_i}, {q_j})``).

        Args:
            hidden_states: ``(B, V, D)`` last-layer states that predict the visual tokens; zeros = the null condition.
            embeddings: ``(V, D)`` or ``(B, V, D)`` word embeddings of the visual tokens.

        Returns:
            ``(B, Q, output_dim)``.
        """
        memory = self.llm2hid(hidden_states + embeddings)  # (B, V, hidden)
        queries = self.query.expand(len(memory), -1, -1)  # (B, Q, hidden)
        condition: Tensor = self.hid2feat(self.mapper(memory, queries))  # (B, Q, output)
        return condition

    def null_condition(self, embeddings: Float[Tensor, "V D"]) -> Float[Tensor, "1 Q E"]:
        """The empty condition: the head's answer to hidden states of zero (ml-mgie)."""
        condition: Tensor = self(torch.zeros_like(embeddings)[None], embeddings)
        return condition
