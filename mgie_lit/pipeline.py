"""MGIE as a diffusers pipeline: ``from_pretrained``, call, ``save_pretrained``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self, cast

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from transformers import PreTrainedTokenizerBase
from transformers.image_processing_utils import BaseImageProcessor

from mgie_lit.checkpoints.cards.card import Card
from mgie_lit.checkpoints.cards.files import read_card, write_card
from mgie_lit.checkpoints.exports import INDEX_FILE, find_export, whole_parts
from mgie_lit.checkpoints.hub import upload
from mgie_lit.checkpoints.untrusted import check_no_code, check_options, read_index
from mgie_lit.editor import Editor
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.faults import Faults
from mgie_lit.guides.memory import ImageMemory
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM
from mgie_lit.prompts import EditPrompt
from mgie_lit.sampling.call import MGIEPipelineOutput, call_editor
from mgie_lit.sampling.edit import SamplingOptions, Transfer
from mgie_lit.sampling.loop import ALL_LEVELS
from mgie_lit.sampling.presets import Preset, apply_preset
from mgie_lit.sampling.solvers import Solver

_HUB_OPTIONS = ("repo_id", "private", "token", "commit_message", "create_pr")


class MGIEPipeline(DiffusionPipeline):
    """Edit images by instructions with an MLLM, an edit head and a latent diffusion UNet (arXiv:2309.17102).

    ``resolution``, steps, scales, solver and guidance interval are the model's own defaults; a call may change all but
    the first. What the MLLM made of the last images is kept for further instructions on them until the weights change:
    ``memory``, an ``ImageMemory`` that may be replaced, or set to None for none.

    Args:
        mllm: Vision tower, projector, language model.
        edit_head: Visual tokens -> cross-attention sequence.
        tokenizer: With the image and visual tokens.
        image_processor: Images -> pixels of the vision tower.
        autoencoder: ``AutoencoderKL`` or ``PatchAutoencoder``.
        unet: Takes noisy and source latents.
        scheduler: diffusers scheduler.
        prompt: Keyword arguments of ``EditPrompt``: system, query, max_length, num_image_patches, image_first,
            num_visual_tokens.
        resolution: Side in pixels of the square that the model was trained on.
        transfer: How the edit gets from working to full size, ``guided`` or ``resize``.
        source_scale: Factor on the source's latents.
        num_inference_steps: Default number of denoising steps.
        guidance_scale: Default weight of the instruction.
        image_guidance_scale: Default weight of the source image.
        max_new_tokens: Longest expressive instruction in tokens.
        no_repeat_ngram: No n-gram of this length is written twice; 0 = off.
        faults: Fields of ``Faults`` that are on, for weights of the released code; None = none is.
        solver: As in ``SamplingOptions``.
        guidance_interval: As there; None = everywhere.
    """

    card: Card | str | None = None  # what `save_pretrained` writes beside the weights; None = that nothing is recorded

    def __init__(
        self,
        mllm: MLLM,
        edit_head: EditHead,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: BaseImageProcessor,
        autoencoder: ModelMixin,
        unet: UNet2DConditionModel,
        scheduler: SchedulerMixin,
        prompt: dict[str, Any] | None = None,
        resolution: int = 256,
        transfer: str = "resize",
        source_scale: float = 1.0,
        num_inference_steps: int = 20,
        guidance_scale: float = 7.5,
        image_guidance_scale: float = 1.5,
        max_new_tokens: int = 96,
        no_repeat_ngram: int = 3,
        faults: dict[str, bool] | None = None,
        solver: str | None = None,
        guidance_interval: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(  # type: ignore[no-untyped-call]
            mllm=mllm,
            edit_head=edit_head,
            tokenizer=tokenizer,
            image_processor=image_processor,
            autoencoder=autoencoder,
            unet=unet,
            scheduler=scheduler,
        )
        self.register_to_config(  # type: ignore[no-untyped-call]
            prompt=prompt,
            resolution=resolution,
            transfer=transfer,
            source_scale=source_scale,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            max_new_tokens=max_new_tokens,
            no_repeat_ngram=no_repeat_ngram,
            faults=faults,
            solver=solver,
            guidance_interval=guidance_interval,
        )
        self.memory: ImageMemory | None = ImageMemory()
        _ = self.editor  # the parts fit together, or this raises
        self.options = SamplingOptions(
            resolution=resolution,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            transfer=cast("Transfer", transfer),
            solver=cast("Solver | None", solver),
            guidance_interval=cast("tuple[float, float]", tuple(guidance_interval or ALL_LEVELS)),
        )

    @property
    def editor(self) -> Editor:
        """The parts as they are now, in eval mode: a scheduler that was replaced counts."""
        faults = Faults(**(self.config["faults"] or {}))
        guide = MLLMGuide(
            self.mllm,
            self.edit_head,
            EditPrompt(self.tokenizer, faults=faults, **(self.config["prompt"] or {})),
            self.image_processor,
            max_new_tokens=self.config["max_new_tokens"],
            no_repeat_ngram=self.config["no_repeat_ngram"],
            faults=faults,
        )
        parts = (self.autoencoder, self.unet, self.scheduler)
        return Editor(guide, *parts, source_scale=self.config["source_scale"], faults=faults).eval()

    @classmethod
    def from_editor(cls, editor: Editor, options: SamplingOptions) -> Self:
        """The pipeline of a trained editor; the parts are shared, not copied.

        Args:
            editor: With an ``MLLMGuide``.
            options: Defaults of the calls; what a call names itself goes before them.

        Returns:
            A pipeline that ``save_pretrained`` can write.

        Raises:
            CheckpointError: The editor's guide is not an MLLM; only MGIE and LGIE are pipelines of this kind.
        """
        guide = editor.guide
        if not isinstance(guide, MLLMGuide):
            raise CheckpointError(f"expected a system with an MLLM (model=mgie), got a {type(guide).__name__}")
        prompt = guide.prompt
        return cls(
            mllm=guide.mllm,
            edit_head=guide.edit_head,
            tokenizer=prompt.tokenizer,
            image_processor=guide.image_processor,
            autoencoder=editor.autoencoder,
            unet=editor.unet,
            scheduler=cast("SchedulerMixin", editor.scheduler),
            prompt={
                "num_image_patches": prompt.num_image_patches,
                "system": prompt.system,
                "query": prompt.query,
                "max_length": prompt.max_length,
                "image_first": prompt.image_first,
                "num_visual_tokens": len(prompt.visual_ids),
            },
            resolution=options.resolution,
            transfer=options.transfer,
            source_scale=editor.source_scale,
            num_inference_steps=options.num_inference_steps,
            guidance_scale=options.guidance_scale,
            image_guidance_scale=options.image_guidance_scale,
            max_new_tokens=guide.max_new_tokens,
            no_repeat_ngram=guide.no_repeat_ngram,
            faults={name: True for name, is_kept in asdict(editor.faults).items() if is_kept} or None,
            solver=options.solver,
            guidance_interval=list(options.guidance_interval),
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any) -> Self:  # noqa: ANN401
        """Load ``"tiny"`` (ships in the package), an export folder, or a repository of the Hugging Face hub.

        Args:
            pretrained_model_name_or_path: Name, folder or hub id.
            **kwargs: As for diffusers' ``DiffusionPipeline.from_pretrained``, e.g. ``dtype``.

        Returns:
            The pipeline, on the CPU where ``kwargs`` name no other place.

        Raises:
            CheckpointError: There is no such folder, or it holds no whole pipeline of this kind, or also pickles or
                code, of which nothing is run; the message says what to do.
        """
        check_options(kwargs)
        folder = find_export(str(pretrained_model_name_or_path))
        check_no_code(folder, read_index(folder / INDEX_FILE, {MGIEPipeline.__name__, cls.__name__}))
        with whole_parts(folder):
            pipeline: Self = super().from_pretrained(folder, use_safetensors=True, **kwargs)
        pipeline.card = read_card(folder)
        return pipeline

    def save_pretrained(  # type: ignore[override]  # the rest by keyword
        self,
        save_directory: str | PathLike[str],
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Write the pipeline: ``model_index.json``, one folder a part with safetensors, and the model card.

        Args:
            save_directory: A card that somebody has edited there stays as it is.
            **kwargs: As for diffusers' method, e.g. ``max_shard_size``; with ``push_to_hub=True`` also uploaded.

        Raises:
            ConfigError: Pickles were asked for.
        """
        if not kwargs.pop("safe_serialization", True):
            raise ConfigError("safe_serialization: expected True, an export is safetensors only; leave it out")
        push = kwargs.pop("push_to_hub", False)
        hub = {key: kwargs.pop(key) for key in _HUB_OPTIONS if key in kwargs}
        folder = Path(save_directory)
        super().save_pretrained(folder, **kwargs)
        write_card(folder, self._card_text(folder.name))
        if push:
            upload(folder, **{"repo_id": folder.name, **hub})

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:  # type: ignore[override]  # noqa: ANN401
        """Save into a temporary folder and upload it; diffusers' own method would put a blank card over ours.

        Args:
            repo_id: ``owner/name``; the repository is made where it is missing.
            **kwargs: ``private``, ``token``, ``commit_message``, ``create_pr``, as for diffusers' method.

        Returns:
            The commit's address.
        """
        with TemporaryDirectory() as parent:
            folder = Path(parent) / repo_id.rpartition("/")[2]
            self.save_pretrained(folder)
            return upload(folder, repo_id, **kwargs)

    def _card_text(self, name: str) -> str:
        card = self.card or Card()
        return card if isinstance(card, str) else replace(card, name=card.name or name).text()

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | Sequence[Image.Image],
        instruction: str | Sequence[str],
        *,
        preset: Preset = "plain",
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        solver: Solver | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: torch.Tensor | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> MGIEPipelineOutput:
        """Edit one image or several.

        Args:
            image: Image(s) of any size and mode; EXIF orientation is applied, transparency laid on white.
            instruction: What to do, one for each image (a single one holds for all).
            preset: ``plain``, the model's defaults, or ``fast``, fewer passes of the UNet
                (``mgie_lit.sampling.presets``); what is given below goes before both.
            num_inference_steps: Denoising steps; None = the preset's.
            guidance_scale: Weight of the instruction; None = the preset's.
            image_guidance_scale: Weight of the source image; None = the preset's.
            guidance_interval: Lowest and highest noise level with guidance, as parts of the timesteps (0 = clean, 1 =
                pure noise); None = the preset's.
            solver: ``ddim``, ``dpm_solver`` or ``unipc``; None = the preset's.
            generator: Noise; one for all images or one for each. Several for one image and one instruction give as many
                edits. None = from torch's global state.
            latents: ``(B, C, h, w)`` standard normal, instead of drawn noise.
            on_step: Called with (steps done, steps in all).

        Returns:
            Images of the upright sources' sizes, and the expressive instructions.

        Raises:
            ConfigError: There are more steps than the scheduler has timesteps, the solver does not fit the model, there
                is no such preset, or an instruction is too long.
            ValueError: An argument is out of its range or the numbers of images and instructions differ.
        """
        options = apply_preset(
            preset,
            self.options,
            self.scheduler,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            guidance_interval=guidance_interval,
            solver=solver,
        )
        editor = self.editor
        cast("MLLMGuide", editor.guide).memory = self.memory
        return call_editor(editor, options, image, instruction, generator=generator, latents=latents, on_step=on_step)
