"""Small synthetic data sets in every layout that the readers know, with the quirks of the real files."""

from mgie_lit.testing.datasets.ipr2pr import write_ipr2pr, write_ipr2pr_columns, write_ipr2pr_packed
from mgie_lit.testing.datasets.magicbrush import write_magicbrush, write_magicbrush_columns
from mgie_lit.testing.datasets.own import write_imagefolder
from mgie_lit.testing.datasets.requests import write_evr, write_gier, write_ma5k

WRITERS = {  # value of `data=` -> writes the layout that its owners publish
    "ipr2pr": write_ipr2pr,
    "magicbrush": write_magicbrush,
    "evr": write_evr,
    "gier": write_gier,
    "ma5k": write_ma5k,
    "imagefolder": write_imagefolder,
}

__all__ = [
    "WRITERS",
    "write_evr",
    "write_gier",
    "write_imagefolder",
    "write_ipr2pr",
    "write_ipr2pr_columns",
    "write_ipr2pr_packed",
    "write_ma5k",
    "write_magicbrush",
    "write_magicbrush_columns",
]
