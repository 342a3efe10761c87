"""A model card: front matter that the hub reads, and what a reader wants to know before using the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from huggingface_hub import ModelCardData

from mgie_lit.checkpoints.cards.data_sets import DataSet
from mgie_lit.checkpoints.cards.files import CARD_FILE, sealed
from mgie_lit.checkpoints.cards.origins import OTHER, PARTS_KEY, UNKNOWN, Origin, as_record, combined_licence
from mgie_lit.checkpoints.cards.results import TASK, Results

_TAGS = ("image-editing", "instruction-based-image-editing", "mgie", "mgie_lit")
_WHAT = (
    "MGIE edits an image by an instruction: a multimodal LLM looks at the image, writes what the result should look "
    "like, and guides a latent diffusion model that paints it ([Fu et al., ICLR 2024](https://arxiv.org/abs/2309.17102))."
)
_USE = """\
```python
import torch
from PIL import Image
from mgie_lit import MGIEPipeline

pipe = MGIEPipeline.from_pretrained("{name}")  # this folder or repository
out = pipe(Image.open("photo.jpg"), "make it brighter", generator=torch.Generator().manual_seed(0))
out.images[0].save("brighter.png")
```"""
_PARTS_ONLY = (
    "These are parts of an export from which a training starts (`size.start.*`, or `mgie convert --from apple --llava "
    "DIR --diffusion DIR`), no whole pipeline."
)
_LIMITS = (
    "Made for research on instruction-based editing. The weights have the biases of the parts and data above, and edit "
    "what they have seen edits of: other requests give a near one, or nothing of sense. An edited photograph can "
    "mislead; say that it is edited. Nothing here was tested for use where a wrong picture does harm."
)
_UNMEASURED = "None was measured for this card. `mgie eval checkpoint=FOLDER data=...` measures."


@dataclass(frozen=True)
class Card:
    """What is known of an export; what is not known is said to be so.

    Args:
        name: Of the model; "" = its folder's.
        origins: Of the parts; none = not recorded.
        is_pipeline: A whole pipeline and not some parts.
        data: It was trained on, as far as is known.
        training: Row title -> text, of the training that ended in these weights.
        results: Of an evaluation of these very weights.
        notes: Further paragraphs on what it can and can not do.
    """

    name: str = ""
    origins: tuple[Origin, ...] = ()
    is_pipeline: bool = True
    data: tuple[DataSet, ...] = ()
    training: Mapping[str, str] = field(default_factory=dict)
    results: tuple[Results, ...] = ()
    notes: str = ""

    def text(self) -> str:
        """The whole ``README.md``."""
        parts = [
            f"---\n{self._data().to_yaml().strip()}\n---",
            f"# {self.name}",
            f"{_WHAT} This card was written by `mgie_lit`.",
            _USE.format(name=self.name) if self.is_pipeline else _PARTS_ONLY,
            "## Parts and licence\n\n" + self._licence(),
            "## Data\n\n" + self._data_text(),
            "## Training\n\n"
            + _rows(self.training, "Not recorded: these weights were not made from a run of `mgie train`."),
            "## Numbers\n\n" + ("\n\n".join(one.table() for one in self.results) or _UNMEASURED),
            "## Intended use and limits\n\n" + (f"{self.notes}\n\n" if self.notes else "") + _LIMITS,
        ]
        return sealed("\n\n".join(parts))

    def _data(self) -> ModelCardData:
        licence = combined_licence(self.origins)
        results = [one for result in self.results for one in result.eval_results()]
        data = ModelCardData(
            license=licence,
            license_name="terms-of-the-parts" if licence == OTHER else None,
            license_link=CARD_FILE if licence == OTHER else None,
            library_name="diffusers",
            pipeline_tag=TASK if self.is_pipeline else None,
            tags=list(_TAGS),
            datasets=[one.hub_id for one in self.data if one.hub_id] or None,
            base_model=list(dict.fromkeys(one.hub_id for one in self.origins if one.hub_id)) or None,
            model_name=self.name if results else None,
            eval_results=results or None,
        )
        if self.origins:
            data[PARTS_KEY] = [as_record(one) for one in self.origins]
        return data

    def _licence(self) -> str:
        if not self.origins:
            return "Where the weights come from, and what their owners allow, is not recorded."
        rows = [
            f"| {one.part} | `{one.source}` | {one.terms}{f' ({one.evidence})' if one.evidence else ''} |"
            for one in self.origins
        ]
        table = "\n".join(["| part | from | licence, and how it is known |", "| --- | --- | --- |", *rows])
        if not any(one.licence is not None and (one.evidence or one.licence == UNKNOWN) for one in self.origins):
            return table
        return f"{table}\n\nAll of these hold together. This is what the folders said; **the owners' pages decide**."

    def _data_text(self) -> str:
        if not self.data:
            return "Not recorded here; see the parts' own cards."
        return "\n".join(
            f"- `{one.name}`{f' ({one.hub_id})' if one.hub_id else ''}: {one.licence}" for one in self.data
        )


def _rows(rows: Mapping[str, str], otherwise: str) -> str:
    if not rows:
        return otherwise
    return "\n".join(["| | |", "| --- | --- |", *(f"| {title} | {text} |" for title, text in rows.items())])
