"""The HTTP API: one function, ``/edit``, with the same limits and the same queue as the page.

Annotations are evaluated here: Gradio reads the API's types off them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import gradio as gr

from mgie_lit.demo.actions import message_of
from mgie_lit.demo.requests import EditRequest, real_number, whole_number
from mgie_lit.demo.studio import Studio
from mgie_lit.errors import DataError
from mgie_lit.sampling.presets import Preset


def edit_endpoint(studio: Studio) -> Callable[..., Awaitable[tuple[dict[str, Any], str]]]:
    """The function behind ``/edit``.

    Args:
        studio: Does the work.

    Returns:
        A coroutine function; Gradio reads the API's parameters off its signature.
    """

    async def edit(
        image: dict[str, Any],
        instruction: str,
        model: str | None = None,
        seed: int = 0,
        preset: Preset = "plain",
        steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
    ) -> tuple[dict[str, Any], str]:
        """Edit a picture by an instruction; gives the edited picture and what the model understood."""
        try:
            request = EditRequest(
                _path(image),
                _text("instruction", instruction),
                studio.shelf.default if model is None else _text("model", model),
                whole_number("seed", seed),
                preset,
                None if steps is None else whole_number("steps", steps),
                None if guidance_scale is None else real_number("guidance_scale", guidance_scale),
                None if image_guidance_scale is None else real_number("image_guidance_scale", image_guidance_scale),
            )
            job = await asyncio.to_thread(studio.edit, [request])
            async for _ in job.follow():  # a caller who goes away stops the job
                pass
            (made,) = job.result()
        except Exception as error:
            raise gr.Error(message_of(error), print_exception=False) from None
        return gr.FileData(path=str(made.edited)).model_dump(), made.expressive_instruction

    return edit


def _path(image: object) -> Path:
    path = image.get("path") if isinstance(image, dict) else None
    if not isinstance(path, str):
        raise DataError(
            "image: expected an uploaded file, got none; with gradio_client: image=handle_file('photo.jpg')"
        )
    return Path(path)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"{name}: expected a text, got {value!r}")
    return value
