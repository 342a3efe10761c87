"""Prompts and answers of a batch on one cache: everything is read once, and what is written is read as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mgie_lit.models.key_values import KeyValueCache, Prefix

if TYPE_CHECKING:
    from mgie_lit.models.mllm import MLLM

NO_ID = -1  # in the place of padding among ids that are compared


class Conversation:
    """A batch of rows of unequal length that a language model reads and continues.

    All rows fill the same slots of the cache, from left to right. What is padding in a row, or was taken back, stays in
    its slot and is not seen. Positions are counted row by row, so that every state is the one that its row has alone.

    Args:
        mllm: In eval mode; no gradient is kept.
        prompts: Ids of each row.
        prefixes: What each row begins with; the same object where rows begin alike.
        num_shared: How many tokens of the prefixes hold for the rows, at least 1. The rest of the prompts is to be read
            next, padded on the left.
        room: For how many tokens there is room after the prompts.
        keeps_states: Whether ``states_in_order`` will be asked for; the prefixes have states then, too.
    """

    def __init__(
        self,
        mllm: MLLM,
        prompts: list[list[int]],
        prefixes: Sequence[Prefix],
        num_shared: int,
        *,
        room: int,
        keeps_states: bool = False,
    ) -> None:
        self.mllm = mllm
        self.prompts = prompts
        self.prompt_slots = max(map(len, prompts))
        capacity = self.prompt_slots + room
        self.num_shared = num_shared
        self.cache = KeyValueCache.stack([one.cache for one in prefixes], length=num_shared, capacity=capacity)
        self._states: list[Tensor] | None = None  # of all slots, (B, S, D) each
        if keeps_states:
            self._states = [torch.stack([one.states[:num_shared] for one in prefixes])]
        device = mllm.device
        self._is_seen = torch.ones(len(prefixes), capacity, dtype=torch.bool, device=device)
        self._has_gaps = False  # whether some slot in use is not seen; known on the host
        self._next = torch.full((len(prefixes),), num_shared, device=device)  # each row's next position

    @torch.no_grad()
    def read(
        self,
        embeddings: Float[Tensor, "B S D"],
        is_real: Bool[Tensor, "B S"] | None = None,
        *,
        only_last: bool = False,
    ) -> Float[Tensor, "B N D"]:
        """Read what comes next.

        Args:
            embeddings: ``(B, S, D)``.
            is_real: ``(B, S)``, False at padding, which may stand anywhere; None = there is none.
            only_last: Whether the last token's state alone is wanted, where not all are kept anyway.

        Returns:
            States after the final norm, ``(B, S, D)``, or ``(B, 1, D)``.
        """
        start, size = self.cache.length, embeddings.shape[1]
        if is_real is None:
            positions = self._next[:, None] + torch.arange(size, device=embeddings.device)  # (B, S)
            self._next = self._next + size
        else:
            counts = is_real.cumsum(1)  # (B, S)
            positions = self._next[:, None] + (counts - 1).clamp(min=0)
            self._next = self._next + counts[:, -1]
            self._is_seen[:, start : start + size] = is_real
            self._has_gaps = True
        num_states = 1 if only_last and self._states is None else None
        states = self.mllm.extend(embeddings, self.cache, positions, self._sees(size), num_states)
        self._last = states[:, -1]  # (B, D)
        if self._states is not None:
            self._states.append(states)
        return states

    @torch.no_grad()
    def write(
        self,
        *,
        stop_ids: Sequence[int],
        never_ids: Sequence[int],
        pad_id: int,
        max_new_tokens: int,
        no_repeat_ngram: int,
        before: Int[Tensor, "B P"] | None = None,
    ) -> Int[Tensor, "B N"]:
        """Greedy continuation; all of it but each row's last token has been read afterwards.

        Args:
            stop_ids: A row ends after any of them.
            never_ids: Ids that are not written.
            pad_id: Fills rows that ended early.
            max_new_tokens: Longest continuation, at least 1.
            no_repeat_ngram: No n-gram of this length is written twice; 0 = off.
            before: ``(B, P)`` ids whose n-grams count as written already, ``NO_ID`` at padding.

        Returns:
            ``(B, N)`` new ids, with the stop id where there was one.
        """
        device, batch_size = self._next.device, len(self._next)
        known = 0 if before is None else before.shape[1]
        ids = torch.full((batch_size, known + max_new_tokens), pad_id, device=device)
        if before is not None:
            ids[:, :known] = before
        stops, nevers = (torch.tensor(list(some), dtype=torch.long, device=device) for some in (stop_ids, never_ids))
        is_open = torch.ones(batch_size, dtype=torch.bool, device=device)
        for end in range(known, known + max_new_tokens):
            scores = self.mllm.logits(self._last).float()  # (B, vocabulary)
            scores.index_fill_(1, nevers, -torch.inf)
            ban_repeats(scores, ids[:, :end], no_repeat_ngram)
            new = torch.where(is_open, scores.argmax(1), pad_id)  # (B,)
            ids[:, end] = new
            is_open &= ~torch.isin(new, stops)
            if end + 1 == ids.shape[1] or not is_open.any():
                break
            self.read(self.mllm.embed(new[:, None]))
        return ids[:, known : end + 1]

    def take_back(self, kept: Sequence[int]) -> None:
        """Forget what each row has read after its prompt, but for the beginning.

        Args:
            kept: How many tokens after the prompt stay, row by row; -1 forgets the prompt's last one, too.
        """
        counts = torch.tensor(kept, device=self._next.device)
        slots = torch.arange(self.cache.length, device=self._next.device)
        forgotten = self._is_seen[:, : self.cache.length] & (slots >= self.prompt_slots + counts[:, None])
        self._next = self._next - forgotten.sum(1)
        self._is_seen[:, : self.cache.length] &= ~forgotten
        self._has_gaps = self._has_gaps or min(kept) != max(kept)
        self.cache.crop(self.prompt_slots + max(kept))
        self._is_seen[:, self.cache.length :] = True
        if self._states is not None:
            self._states = [torch.cat(self._states, dim=1)[:, : self.cache.length]]

    def states_in_order(self) -> Float[Tensor, "B S D"]:
        """States after the final norm of all that was read, ``(B, S, D)``; padding stands at the end."""
        assert self._states is not None, "keeps_states is off"
        states = torch.cat(self._states, dim=1)
        padding = torch.tensor([self.prompt_slots - len(prompt) for prompt in self.prompts], device=states.device)
        positions = torch.arange(states.shape[1], device=states.device)
        slots = positions + torch.where(positions < self.num_shared, 0, padding[:, None])  # (B, S)
        return states.gather(1, slots.clamp(max=states.shape[1] - 1)[..., None].expand_as(states))

    def _sees(self, size: int) -> Tensor | None:
        """Which slots each of the next ``size`` tokens sees, ``(B or 1, 1, S, slots)``; None = all up to itself."""
        start = self.cache.length
        if size == 1 and not self._has_gaps:
            return None
        slots = torch.arange(start + size, device=self._next.device)
        sees = slots <= slots[start:, None]  # (S, slots)
        if not self._has_gaps:
            return sees[None, None]
        return self._is_seen[:, None, None, : start + size] & sees


def ban_repeats(scores: Float[Tensor, "B V"], ids: Int[Tensor, "B N"], size: int) -> None:
    """Set to -inf, in place, what would write an n-gram a second time; nothing waits for the device.

    Args:
        scores: ``(B, V)`` of the next id.
        ids: ``(B, N)`` so far, ``NO_ID`` at padding.
        size: Length of the n-grams, at least 1; 0 = off.
    """
    if not size or ids.shape[1] < size:
        return
    grams = ids.unfold(1, size, 1)  # (B, N - size + 1, size)
    last = ids[:, ids.shape[1] - size + 1 :]  # (B, size - 1)
    following = grams[..., -1]
    is_repeat = (grams[..., :-1] == last[:, None]).all(2) & (following != NO_ID)
    limits = torch.where(is_repeat, -torch.inf, torch.inf).to(scores.dtype)
    scores.scatter_reduce_(1, following.clamp(min=0), limits, "amin")
