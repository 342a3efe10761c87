"""What happens when something on the page is pressed: events in, values of components out."""

from __future__ import annotations

import asyncio
import html
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from mgie_lit.demo.engine import Job, Progress, StoppedError
from mgie_lit.demo.requests import LARGEST_SEED, Edit, EditRequest, parse_seeds, real_number, whole_number
from mgie_lit.demo.session import EditSession  # Gradio reads annotations of handlers
from mgie_lit.errors import DataError, MGIEError
from mgie_lit.sampling.presets import Preset

if TYPE_CHECKING:
    from mgie_lit.demo.studio import Studio

LOG = logging.getLogger(__name__)
Updates = dict[Any, Any]


@dataclass(frozen=True)
class Parts:
    """Components of the page that events change."""

    picture: gr.Image
    instruction: gr.Textbox
    seed: gr.Number
    steps: gr.Slider
    guidance_scale: gr.Slider
    image_guidance_scale: gr.Slider
    model: gr.Dropdown
    systems: gr.Dropdown
    edit: gr.Button
    stop: gr.Button
    compare: gr.Button
    status: gr.HTML
    result: gr.ImageSlider
    words: gr.Textbox
    again: gr.Button
    undo: gr.Button
    history: gr.Gallery
    grid: gr.Gallery
    compare_stop: gr.Button
    compare_status: gr.HTML
    examples: gr.Gallery

    def all(self) -> list[Any]:
        """Every component, as outputs of events that change several."""
        return [getattr(self, name) for name in self.__dataclass_fields__]


class Actions:
    """Handlers of the page's events.

    Inputs are raw values, not preprocessed by Gradio, so that a broken picture gets a message of ours.

    Args:
        studio: Does the work.
        parts: What is shown.
        examples: Pictures with an instruction each, in the order of the page.
    """

    def __init__(self, studio: Studio, parts: Parts, examples: Sequence[tuple[Path, str]]) -> None:
        self.studio, self.parts, self.examples = studio, parts, examples

    async def edit(
        self,
        session: EditSession,
        picture: object,
        instruction: str,
        model: str,
        preset: Preset,
        steps: object,
        guidance_scale: object,
        image_guidance_scale: object,
        seed: object,
        is_new_seed: bool,
    ) -> AsyncIterator[Updates]:
        """Edit the picture; progress on the way."""
        parts, job = self.parts, None
        try:
            number = secrets.randbelow(LARGEST_SEED) if is_new_seed else whole_number("Seed", seed)
            settings = _settings(preset, steps, guidance_scale, image_guidance_scale)
            request = EditRequest(self._source(picture), instruction or "", model, number, **settings)
            yield {parts.seed: number}
            session.job = job = await asyncio.to_thread(self.studio.edit, [request])
            async for progress in job.follow():
                yield {**_busy(parts), parts.status: show_progress(progress)}
            session.add(job.result()[0])
            yield {**self._shown(session), parts.status: show_text(_summary(session.edits[-1]))}
        except Exception as error:
            yield {parts.status: show_error(error)}
        finally:
            _leave(job)
        yield _idle(parts, session)

    async def compare(
        self,
        session: EditSession,
        picture: object,
        instruction: str,
        systems: list[str],
        seeds: str,
        preset: Preset,
        steps: object,
        guidance_scale: object,
        image_guidance_scale: object,
        is_own: bool,
    ) -> AsyncIterator[Updates]:
        """The same instruction under several systems and seeds; pictures come one by one."""
        parts, job = self.parts, None
        try:
            source, numbers = self._source(picture), parse_seeds(seeds or "")
            if not systems:
                raise DataError("Models: expected at least one, got none; choose what to compare")
            settings = {"preset": preset} if is_own else _settings(preset, steps, guidance_scale, image_guidance_scale)
            requests = [
                EditRequest(source, instruction or "", model, seed, **settings) for model in systems for seed in numbers
            ]
            session.job = job = await asyncio.to_thread(self.studio.edit, requests)
            yield {parts.grid: gr.Gallery([], columns=len(numbers))}
            async for progress in job.follow():
                yield {**_busy(parts), parts.compare_status: show_progress(progress), parts.grid: _grid(job.parts)}
            edits = job.result()
            yield {parts.grid: _grid(edits), parts.compare_status: show_text(f"{len(edits)} edits.")}
        except Exception as error:
            yield {parts.compare_status: show_error(error)}
        finally:
            _leave(job)
        yield _idle(parts, session)

    async def pick(self, session: EditSession, model: str, preset: Preset) -> AsyncIterator[Updates]:
        """Another model or preset was chosen: its own settings, loaded if need be."""
        parts = self.parts
        try:
            job = await asyncio.to_thread(self.studio.defaults, model, preset)
            async for progress in job.follow():
                yield {parts.status: show_progress(progress)}
            own = job.result()
            yield {
                parts.steps: own.steps,
                parts.guidance_scale: own.guidance_scale,
                parts.image_guidance_scale: own.image_guidance_scale,
                parts.status: "",
            }
        except Exception as error:
            yield {parts.status: show_error(error)}

    def look(self, picture: object) -> Updates:
        """A picture came: say its size, or what is wrong with it."""
        try:
            image = self.studio.files.open(self._source(picture))
        except Exception as error:
            return {self.parts.status: show_error(error)}
        return {self.parts.status: show_text(f"{image.width} x {image.height} pixels")}

    def again(self, session: EditSession) -> Updates:
        """The edit that is looked at becomes the picture to edit."""
        current = session.current
        return {} if current is None else {self.parts.picture: str(current.edited)}

    def undo(self, session: EditSession) -> Updates:
        """Take back the last edit: its picture and words are where they were before it."""
        last = session.undo()
        if last is None:
            return {}
        parts, request = self.parts, last.request
        return {
            **self._shown(session),
            **_idle(parts, session),
            parts.picture: str(request.source),
            parts.instruction: request.instruction,
            parts.status: show_text("Taken back."),
        }

    def show(self, session: EditSession, event: gr.SelectData) -> Updates:
        """An edit of the history was chosen."""
        session.show(int(event.index))
        return self._shown(session, has_history=False)

    def take_example(self, event: gr.SelectData) -> Updates:
        """An example was chosen."""
        path, instruction = self.examples[int(event.index)]
        return {
            self.parts.picture: str(path),
            self.parts.instruction: instruction,
            self.parts.examples: gr.Gallery(selected_index=None),
        }

    def stop(self, session: EditSession) -> None:
        """Stop what runs."""
        session.stop()

    def refresh(self) -> Updates:
        """Models that there are now."""
        names = self.studio.shelf.names()
        return {self.parts.model: gr.Dropdown(choices=names), self.parts.systems: gr.Dropdown(choices=names)}

    def _source(self, picture: object) -> Path:
        path = picture.get("path") if isinstance(picture, dict) else None
        if not isinstance(path, str):
            raise DataError("Picture: expected one, got none; upload or paste a picture first")
        return Path(path)

    def _shown(self, session: EditSession, *, has_history: bool = True) -> Updates:
        parts, current = self.parts, session.current
        updates: Updates = {
            parts.result: None if current is None else (str(current.request.source), str(current.edited)),
            parts.words: "" if current is None else current.expressive_instruction,
        }
        if has_history:
            items = [(str(edit.edited), edit.request.instruction) for edit in session.edits]
            updates[parts.history] = gr.Gallery(items, visible=bool(items), selected_index=None)
        return updates


def show_progress(progress: Progress) -> str:
    """HTML of a bar and what is done."""
    if progress.ahead:
        text = f"Waiting: {progress.ahead} {'job' if progress.ahead == 1 else 'jobs'} before yours"
        return _status("<progress></progress>", text)
    values = f' value="{progress.done}" max="{progress.total}"' if progress.total else ""
    return _status(f"<progress{values}></progress>", progress.text)


def show_text(text: str) -> str:
    """HTML of a message."""
    return _status("", text)


def show_error(error: Exception) -> str:
    """HTML of what went wrong; faults of ours go to the terminal."""
    if isinstance(error, StoppedError):
        return show_text("Stopped.")
    return f'<div class="mgie-status error" role="alert"><span>{html.escape(message_of(error))}</span></div>'


def message_of(error: Exception) -> str:
    """What to tell the user about an error; faults of ours are logged with their traceback."""
    if isinstance(error, MGIEError | ValueError):
        return str(error)
    LOG.error("an edit failed", exc_info=error)
    return f"Internal error ({type(error).__name__}); the terminal of the demo says more."


def _status(bar: str, text: str) -> str:
    return f'<div class="mgie-status" role="status">{bar}<span>{html.escape(text)}</span></div>'


def _summary(edit: Edit) -> str:
    return f"{edit.request.model}, seed {edit.request.seed}, {edit.seconds:.1f} s"


def _settings(preset: Preset, steps: object, guidance_scale: object, image_guidance_scale: object) -> dict[str, Any]:
    return {
        "preset": preset,
        "steps": whole_number("Steps", steps),
        "guidance_scale": real_number("Guidance by the instruction", guidance_scale),
        "image_guidance_scale": real_number("Guidance by the picture", image_guidance_scale),
    }


def _grid(edits: list[Edit]) -> list[tuple[str, str]]:
    return [(str(edit.edited), f"{edit.request.model}, seed {edit.request.seed}") for edit in edits]


def _leave(job: Job[Any] | None) -> None:
    """Stop what nobody looks at any more, as when the page was closed; what has ended stays as it is."""
    if job is not None:
        job.stop()


def _busy(parts: Parts) -> Updates:
    return {
        parts.edit: gr.Button(interactive=False),
        parts.compare: gr.Button(interactive=False),
        parts.stop: gr.Button(interactive=True),
        parts.compare_stop: gr.Button(interactive=True),
    }


def _idle(parts: Parts, session: EditSession) -> Updates:
    return {
        parts.edit: gr.Button(interactive=True),
        parts.compare: gr.Button(interactive=True),
        parts.stop: gr.Button(interactive=False),
        parts.compare_stop: gr.Button(interactive=False),
        parts.again: gr.Button(interactive=session.current is not None),
        parts.undo: gr.Button(interactive=bool(session.edits)),
    }
