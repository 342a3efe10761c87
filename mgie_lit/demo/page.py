"""The page: what stands where, and which action each event calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.events import api

from mgie_lit.checkpoints.exports import TINY
from mgie_lit.checkpoints.tiny import TINY_NOTE
from mgie_lit.demo.actions import Actions, Parts
from mgie_lit.demo.api import edit_endpoint
from mgie_lit.demo.examples import example_edits
from mgie_lit.demo.requests import LARGEST_SCALE, LARGEST_SEED
from mgie_lit.demo.session import EditSession
from mgie_lit.sampling.presets import PRESETS

if TYPE_CHECKING:
    from mgie_lit.demo.studio import Defaults, Studio

TITLE = "Edit pictures by instruction"
_HALF, _WHOLE = 4, 6  # small pictures in a row, across half the page and all of it


def build_page(studio: Studio) -> gr.Blocks:
    """The whole page with its events and the API.

    Args:
        studio: Does the work.

    Returns:
        Blocks that can be launched.
    """
    own = studio.defaults(studio.shelf.default).result()
    page: gr.Blocks
    with gr.Blocks(title=f"mgie: {TITLE.lower()}", analytics_enabled=False) as page:
        call = api(edit_endpoint(studio), api_name="edit", concurrency_limit=None)
        session = gr.State(EditSession(studio.limits.turns))
        gr.HTML(f"<h1>{TITLE}</h1><p>Nothing leaves the machine that this page runs on.</p>", elem_id="head")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                left, extra = _inputs(studio, own)
            with gr.Column(scale=6, min_width=320):
                right, seeds, is_own = _outputs(studio)
        examples = example_edits(studio.files.folder / "examples")
        gallery = _strip(
            "Examples: choose one to start with", "examples", _WHOLE, [(str(path), words) for path, words in examples]
        )
        parts = Parts(**left, **right, examples=gallery)
        actions = Actions(studio, parts, examples)
        _connect(page, actions, parts, session, {**extra, "seeds": seeds, "is_own": is_own})
        # What makes `job.cancel()` of gradio_client reach the call; nobody presses it.
        gr.Button(visible=False).click(None, cancels=[call], api_visibility="private")
    return page


def _inputs(studio: Studio, own: Defaults) -> tuple[dict[str, Any], dict[str, Any]]:
    limits, names = studio.limits, studio.shelf.names()
    hint = f"Drop, paste or choose a picture\n(up to {limits.megabytes} MB, {limits.megapixels} megapixels)"
    parts: dict[str, Any] = {
        "picture": gr.Image(
            label="Picture",
            type="filepath",
            image_mode=None,
            sources=["upload", "clipboard"],
            height=320,
            placeholder=hint,
            buttons=["fullscreen"],
            elem_id="picture",
        ),
        "instruction": gr.Textbox(
            label="Instruction",
            placeholder="make it brighter",
            max_length=limits.characters,
            submit_btn=False,
            elem_id="instruction",
        ),
    }
    with gr.Row():
        parts["edit"] = gr.Button("Edit", variant="primary", elem_id="edit", scale=3, min_width=120)
        parts["stop"] = gr.Button("Stop", interactive=False, elem_id="stop", scale=1, min_width=90)
    parts["status"] = gr.HTML("", elem_id="status", elem_classes="mgie-line")
    note = TINY_NOTE if TINY in names else None
    parts["model"] = gr.Dropdown(names, value=names[0], label="Model", info=note, elem_id="model")
    extra: dict[str, Any] = {}
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        extra["preset"] = gr.Radio(list(PRESETS), value=PRESETS[0], label="Preset", elem_id="preset")
        parts["steps"] = gr.Slider(1, limits.steps, value=own.steps, step=1, label="Steps", elem_id="steps")
        parts["guidance_scale"] = gr.Slider(
            0, LARGEST_SCALE, value=own.guidance_scale, step=0.1, label="Guidance by the instruction", info="1 = off"
        )
        parts["image_guidance_scale"] = gr.Slider(
            0, LARGEST_SCALE, value=own.image_guidance_scale, step=0.1, label="Guidance by the picture", info="1 = off"
        )
        with gr.Row():
            parts["seed"] = gr.Number(
                0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=140, elem_id="seed"
            )
            extra["is_new_seed"] = gr.Checkbox(label="A new seed for every edit", min_width=140)
    return parts, extra


def _outputs(studio: Studio) -> tuple[dict[str, Any], gr.Textbox, gr.Checkbox]:
    names = studio.shelf.names()
    parts: dict[str, Any] = {}
    with gr.Tabs():
        with gr.Tab("Result", id="result"):
            parts["result"] = gr.ImageSlider(
                label="Before and after", interactive=False, height=400, format="png", elem_id="result"
            )
            parts["words"] = gr.Textbox(
                label="What the model understood", interactive=False, lines=1, max_lines=6, elem_id="words"
            )
            with gr.Row():
                parts["again"] = gr.Button("Edit this result", interactive=False, elem_id="again", min_width=140)
                parts["undo"] = gr.Button("Undo", interactive=False, elem_id="undo", min_width=140)
            parts["history"] = _strip("History: choose one to look at it", "history", _HALF)
        with gr.Tab("Compare", id="compare-tab"):
            gr.Markdown("The picture and the instruction of this page, with several models or seeds.")
            parts["systems"] = gr.Dropdown(names, value=[names[0]], multiselect=True, label="Models", elem_id="systems")
            seeds = gr.Textbox("0, 1, 2, 3", label="Seeds", info="numbers with commas between", elem_id="seeds")
            is_own = gr.Checkbox(True, label="Each model with its own steps and guidance")
            with gr.Row():
                parts["compare"] = gr.Button("Compare", variant="primary", elem_id="compare", scale=3, min_width=120)
                parts["compare_stop"] = gr.Button(
                    "Stop", interactive=False, elem_id="compare-stop", scale=1, min_width=90
                )
            parts["compare_status"] = gr.HTML("", elem_id="compare-status", elem_classes="mgie-line")
            parts["grid"] = gr.Gallery(
                label="Edits by model and seed",
                columns=4,
                object_fit="contain",
                height="auto",
                interactive=False,
                buttons=["download", "fullscreen"],
                elem_id="grid",
            )
    return parts, seeds, is_own


def _strip(label: str, name: str, columns: int, items: list[tuple[str, str]] | None = None) -> gr.Gallery:
    """Small pictures to choose from; each is a button, so that the keyboard reaches it."""
    return gr.Gallery(
        items,
        label=label,
        columns=columns,
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        fit_columns=False,
        visible=bool(items),
        buttons=[],
        elem_id=name,
        elem_classes="mgie-strip",
    )


def _connect(page: gr.Blocks, actions: Actions, parts: Parts, session: gr.State, extra: dict[str, Any]) -> None:
    # preprocess=False: raw values, so that a broken picture gets a message of ours; the studio's queue is the only one
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    raw: dict[str, Any] = {**quiet, "preprocess": False, "concurrency_limit": None, "outputs": parts.all()}
    scales = [parts.steps, parts.guidance_scale, parts.image_guidance_scale]
    given = [session, parts.picture, parts.instruction]
    inputs = [*given, parts.model, extra["preset"], *scales, parts.seed, extra["is_new_seed"]]
    gr.on([parts.edit.click, parts.instruction.submit], actions.edit, inputs, trigger_mode="once", **raw)
    compared = [*given, parts.systems, extra["seeds"], extra["preset"], *scales, extra["is_own"]]
    parts.compare.click(actions.compare, compared, trigger_mode="once", **raw)
    picked = [session, parts.model, extra["preset"]]
    gr.on([parts.model.input, extra["preset"].input], actions.pick, picked, trigger_mode="always_last", **raw)
    parts.picture.upload(actions.look, parts.picture, parts.all(), preprocess=False, queue=False, **quiet)
    gr.on([parts.stop.click, parts.compare_stop.click], actions.stop, session, None, queue=False, **quiet)
    parts.again.click(actions.again, session, parts.all(), queue=False, **quiet)
    parts.undo.click(actions.undo, session, parts.all(), queue=False, **quiet)
    parts.history.select(actions.show, session, parts.all(), queue=False, **quiet)
    parts.examples.select(actions.take_example, None, parts.all(), queue=False, **quiet)
    page.load(actions.refresh, None, parts.all(), queue=False, **quiet)
