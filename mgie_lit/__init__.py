"""MGIE in PyTorch Lightning and Hydra: instruction-based image editing guided by a multimodal LLM."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgie_lit.pipeline import MGIEPipeline

__all__ = ["MGIEPipeline", "__version__"]

try:
    __version__ = version("mgie-lit")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import ``MGIEPipeline`` when it is first asked for, so that ``import mgie_lit`` stays light."""
    if name == "MGIEPipeline":
        return import_module("mgie_lit.pipeline").MGIEPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
