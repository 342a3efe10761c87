"""LLaVA behind a narrow interface: token ids and pixels in, hidden states and logits out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from mgie_lit.models.key_values import CACHE_ARGUMENT, KeyValueCache, Prefix
from mgie_lit.models.language_layers import run_layers


class MLLM(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """CLIP vision tower, projector and LLaMA (LLaVA, arXiv:2304.08485, section 4.1).

    Args:
        language: Keyword arguments of ``transformers.LlamaConfig``; its vocabulary includes the added tokens.
        vision: Keyword arguments of ``transformers.CLIPVisionConfig``; ``None`` = a language model without eyes (LGIE).
        vision_layer: Which hidden state of the tower is projected; -2 in LLaVA. The class position is dropped.
        image_patch_id: Token id whose embeddings are replaced by projected image features.
        projector_layers: 1 = linear, as LLaVA-7B-v1; 2 = with a GELU between, as LLaVA-1.5 (arXiv:2310.03744).

    Raises:
        ValueError: ``projector_layers`` is neither 1 nor 2.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        language: Mapping[str, Any],
        vision: Mapping[str, Any] | None = None,
        vision_layer: int = -2,
        image_patch_id: int | None = None,
        projector_layers: int = 1,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.language_model = LlamaForCausalLM(LlamaConfig(**language))
        self.vision_tower: CLIPVisionModel | None = None
        self.projector: nn.Module | None = None
        if vision is not None:
            vision_config = CLIPVisionConfig(**vision)
            self.vision_tower = CLIPVisionModel(vision_config)
            self.projector = _projector(vision_config.hidden_size, self.hidden_dim, projector_layers)
        self.image_patch_id = image_patch_id
        self.vision_layer = vision_layer

    @property
    def idle_patterns(self) -> list[str]:
        """Shell patterns of parameters that nothing depends on: the tower above the layer that is projected."""
        if self.vision_tower is None:
            return []
        num_layers = self.vision_tower.config.num_hidden_layers
        last = self.vision_layer % (num_layers + 1)  # hidden state 0 is what enters the first layer
        layers = [f"vision_tower.*layers.{index}.*" for index in range(last, num_layers)]
        return ["vision_tower.*post_layernorm.*", *layers]

    @property
    def hidden_dim(self) -> int:
        """Width of hidden states and word embeddings."""
        return int(self.language_model.config.hidden_size)

    @property
    def word_embeddings(self) -> Float[Tensor, "V D"]:
        """The table of word embeddings, ``(vocabulary, D)``."""
        return cast("nn.Embedding", self.language_model.get_input_embeddings()).weight

    def image_features(self, pixels: Float[Tensor, "B 3 P P"]) -> Float[Tensor, "B N D"]:
        """Projected patch features, one for every ``<im_patch>``.

        Args:
            pixels: ``(B, 3, P, P)``, normalised as the image processor gives them; ``P`` = the tower's image size.

        Returns:
            ``(B, N, D)``, row by row of the image; ``N = (P / patch size)^2``.

        Raises:
            ValueError: This MLLM has no vision tower.
        """
        return self.project(self.vision_states(pixels))

    def vision_states(self, pixels: Float[Tensor, "B 3 P P"]) -> Float[Tensor, "B N E"]:
        """What the projector takes: the tower's states of the patches, ``(B, N, E)``; the class position is dropped."""
        if self.vision_tower is None:
            raise ValueError("pixels: this MLLM was built without a vision tower; expected none")
        device, dtype = pixels.device.type, self.vision_tower.dtype
        is_mixed = torch.is_autocast_enabled(device) and dtype != torch.float16
        # a half tower computes in its own type (faults.half_vision_tower)
        with torch.autocast(device, enabled=is_mixed):
            return self._tower_states(pixels.to(dtype))[:, 1:]

    def _tower_states(self, pixels: Tensor) -> Tensor:
        """Hidden state ``vision_layer`` of the tower, ``(B, 1 + N, E)``; the layers above it are not run."""
        tower = cast("CLIPVisionModel", self.vision_tower)
        num_layers = self.vision_layer % (len(tower.encoder.layers) + 1)  # state 0 is what enters the first layer
        states = tower.pre_layrnorm(tower.embeddings(pixels))
        for layer in tower.encoder.layers[:num_layers]:
            states = layer(states, None)
        return cast("Tensor", states)

    def project(self, vision_states: Float[Tensor, "B N E"]) -> Float[Tensor, "B N D"]:
        """Image features from :meth:`vision_states`."""
        assert self.projector is not None
        features: Tensor = self.projector(vision_states.to(next(self.projector.parameters()).dtype))
        return features

    def embed(
        self,
        input_ids: Int[Tensor, "B S"],
        pixels: Float[Tensor, "B 3 P P"] | None = None,
        vision_states: Float[Tensor, "B N E"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """Word embeddings with the image's features in the places of ``<im_patch>``, ``(B, S, D)``.

        Every row holds as many ``<im_patch>`` ids as the tower has patches (``EditPrompt`` sees to it). Vision states
        that were made before stand in for the pixels.
        """
        return self.with_image(self.words(input_ids), input_ids, pixels, vision_states)

    def words(self, input_ids: Int[Tensor, "*N"]) -> Float[Tensor, "*N D"]:
        """Word embeddings, ``(*N, D)``."""
        embeddings: Tensor = self.language_model.get_input_embeddings()(input_ids)
        return embeddings

    def with_image(
        self,
        words: Float[Tensor, "B S D"],
        input_ids: Int[Tensor, "B S"],
        pixels: Float[Tensor, "B 3 P P"] | None = None,
        vision_states: Float[Tensor, "B N E"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        """Word embeddings with the image's features put in, as :meth:`embed` does."""
        if self.vision_tower is None or (pixels is None and vision_states is None):
            return words
        assert self.image_patch_id is not None
        is_patch = (input_ids == self.image_patch_id)[..., None]  # (B, S, 1)
        if vision_states is None:
            assert pixels is not None
            vision_states = self.vision_states(pixels)
        features = self.project(vision_states)
        return words.masked_scatter(is_patch, features.to(words.dtype))

    def forward(
        self, embeddings: Float[Tensor, "B S D"], attention_mask: Bool[Tensor, "B S"] | None = None
    ) -> Float[Tensor, "B S D"]:
        """Hidden states after the final norm, ``(B, S, D)``; rows are padded on the right.

        Args:
            embeddings: ``(B, S, D)``.
            attention_mask: ``(B, S)``, False at padding; None = padding may look at anything before it, which no state
                of another position depends on.

        Returns:
            The states; those of padding mean nothing.
        """
        model = self.language_model.model
        if attention_mask is not None or self._is_eager:
            outputs = model(inputs_embeds=embeddings, attention_mask=attention_mask, use_cache=False)
            return cast("Tensor", outputs.last_hidden_state)
        # transformers would look at the positions to find out that no mask is needed, and wait for the device
        positions = torch.arange(embeddings.shape[1], device=embeddings.device)[None]  # (1, S)
        return run_layers(model, embeddings, positions)

    def extend(
        self,
        embeddings: Float[Tensor, "B S D"],
        cache: KeyValueCache,
        positions: Int[Tensor, "B S"],
        sees: Bool[Tensor, "*B 1 S L"] | None = None,
        num_states: int | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Hidden states after the final norm of tokens that follow those in a cache, ``(B, N, D)``.

        Args:
            embeddings: ``(B, S, D)``.
            cache: Takes the tokens' keys and values.
            positions: ``(B, S)``, counted from 0 in each row.
            sees: ``(B, 1, S, L)`` or ``(1, 1, S, L)``, which of the cache's slots, with the new ones, each token sees;
                None = all up to its own, if the cache is empty or there is one new token.
            num_states: 1 = the last state is wanted, 0 = none; of the other tokens the last layer only makes keys and
                values. None = all are.

        Returns:
            The states; those of padding mean nothing.
        """
        mask = sees
        if self._is_eager:  # it adds its mask, and knows no causal order without one
            size = embeddings.shape[1]
            if sees is None:
                sees = torch.ones(size, cache.length + size, dtype=torch.bool, device=embeddings.device).tril(
                    cache.length
                )
            mask = embeddings.new_zeros(sees.shape).masked_fill_(~sees, torch.finfo(embeddings.dtype).min)
        return run_layers(self.language_model.model, embeddings, positions, mask, cache, num_states)

    @torch.no_grad()
    def prefix(self, embeddings: Float[Tensor, "B P D"], *, has_states: bool = True) -> list[Prefix]:
        """What is kept of beginnings of prompts, one for each row.

        Args:
            embeddings: ``(B, P, D)``, without padding.
            has_states: Whether the hidden states are wanted, too.

        Returns:
            Copies that stand alone.
        """
        batch_size, length, _ = embeddings.shape
        cache = KeyValueCache(len(self.language_model.model.layers), length)
        positions = torch.arange(length, device=embeddings.device).expand(batch_size, -1)
        states = self.extend(embeddings, cache, positions, num_states=None if has_states else 0)
        return [Prefix(cache.row(index), states[index].clone()) for index in range(batch_size)]

    @property
    def _is_eager(self) -> bool:
        return bool(self.language_model.config._attn_implementation == "eager")

    def states_with_new_tail(
        self,
        embeddings: Float[Tensor, "B S D"],
        tail: Float[Tensor, "V D"],
        tail_start: Int[Tensor, " B"],
    ) -> Float[Tensor, "B S D"]:
        """Hidden states after the final norm, of which only those of the tail have a graph.

        Attention is causal, so nothing before the tail depends on it: that part runs without gradient and leaves its
        keys and values, and the tail alone runs with one. Gradients of ``tail``, and of all that reads the states, are
        those of the full pass if the layers are frozen.

        Args:
            embeddings: ``(B, S, D)``, rows padded on the right; each ends with the tail and one token more.
            tail: ``(V, D)`` embeddings of the tokens that end every row; their gradient flows.
            tail_start: ``(B,)`` position of the tail's first token.

        Returns:
            ``(B, S, D)``; states after the tail are zero.
        """
        batch_size, length, _ = embeddings.shape
        num_tail, device = len(tail), embeddings.device
        num_before = length - num_tail - 1  # of the longest row; of shorter ones some lie within the tail, masked below
        with torch.no_grad():
            outputs = self.language_model.model(inputs_embeds=embeddings[:, :num_before], use_cache=True)
        offsets = torch.arange(num_tail, device=device)
        positions = tail_start[:, None] + offsets  # (B, V)
        sees_before = torch.arange(num_before, device=device) < tail_start[:, None, None]  # (B, 1, P)
        sees_tail = (offsets[None] <= offsets[:, None]).expand(batch_size, -1, -1)  # (B, V, V)
        sees = torch.cat([sees_before.expand(-1, num_tail, -1), sees_tail], dim=2)[:, None]  # (B, 1, V, P + V)
        hidden_tail = self.language_model.model(
            inputs_embeds=tail.expand(batch_size, -1, -1),
            attention_mask=sees,
            position_ids=positions,
            use_cache=True,
            **{CACHE_ARGUMENT: outputs[CACHE_ARGUMENT]},
        ).last_hidden_state  # (B, V, D)
        before = outputs.last_hidden_state
        hidden = torch.cat([before, before.new_zeros(batch_size, num_tail + 1, before.shape[-1])], dim=1)
        return hidden.scatter(1, positions[..., None].expand_as(hidden_tail), hidden_tail)

    def logits(self, hidden_states: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        """Scores over the vocabulary for what follows each hidden state."""
        scores: Tensor = self.language_model.lm_head(hidden_states)
        return scores


def _projector(vision_dim: int, hidden_dim: int, num_layers: int) -> nn.Module:
    if num_layers == 1:
        return nn.Linear(vision_dim, hidden_dim)
    if num_layers == 2:
        return nn.Sequential(nn.Linear(vision_dim, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim))
    raise ValueError(f"projector_layers: expected 1 (linear) or 2 (with a GELU between), got {num_layers}")
