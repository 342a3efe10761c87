"""The faults of the released MGIE code that change numbers, one switch each; every repair is ``False``.

``preset=released`` turns all of them on. `docs/numerics.md` says of each what it does, why we repair it, and what that
changes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Faults:
    """Which faults of the released code are kept; a part takes from here what concerns it."""

    # Start of a training
    redraw_linear: bool = False  # pretrained linear layers of UNet and autoencoder are drawn anew, N(0, 0.02)
    random_conv_in_bias: bool = False  # the widened conv_in forgets its bias
    half_vision_tower: bool = False  # the vision tower computes in float16 whatever the precision

    # Rows of text
    cut_visual_tokens: bool = False  # a row that is too long loses its end, visual tokens too
    ignore_odd_texts: bool = False  # a text that holds a separator of the conversation trains no word
    mask_unknown_tokens: bool = False  # <unk> is taken for padding

    # Instruction loss
    nan_without_labels: bool = False  # a batch without labels costs NaN
    local_label_mean: bool = False  # mean of the means of processes and micro-batches

    # Reading the visual tokens
    clamp_slice: bool = False  # never later than nine before the padded end; there, too, where [IMG0] is missing
    free_visual_tokens: bool = False  # at inference the visual tokens are there only if the MLLM writes them
    ban_prompt_ngrams: bool = False  # what it writes may not repeat three tokens of the prompt either
    demo_tokens: bool = False  # at inference the prompt is tokenised in another way than in training

    # Pictures and their order
    two_step_resize: bool = False  # cut first, then to 512 px and from there to the training resolution
    demo_images: bool = False  # at inference the MLLM sees the photograph, the UNet all of it at its own size
    overlapping_ranks: bool = False  # every process deals out an order of its own


NO_FAULTS = Faults()
RELEASED = Faults(**dict.fromkeys(Faults.__dataclass_fields__, True))
