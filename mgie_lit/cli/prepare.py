"""``mgie prepare``: what is done with data before training, one module a step (``cli/prepare_<step>.py``)."""

from __future__ import annotations

import sys
from importlib import import_module

from mgie_lit.cli.help_text import HELP_FLAGS, overrides_help
from mgie_lit.errors import ConfigError

STEPS = (
    "preview",
    "check",
    "cache",
    "expressive",
    "shards",
)  # each has a module `prepare_<step>` with `run(overrides)`

HELP = """\
usage: mgie prepare preview|check|cache|expressive|shards [OVERRIDES]

preview: draw the first examples of a data set (conf/prepare.yaml) with their instructions on one picture, whose path
is printed last.

check: open every example of a data set, list what is wrong with it, and write which ones to leave out of a training
(conf/check). Prints the path for data.exclude= last; exit status 1 if there are errors.

cache: encode the images of a training beforehand, into the folder data.cache= (conf/cache). Takes the overrides of the
training and options cache.*; prints the folder last.

expressive: ask an MLLM (or an LLM) what each edit would look like, for data.expressive= (conf/expressive). Prints the
path of the file last; the same command goes on where it was stopped.

shards: write a data set as a few tar files, for disks and networks that do not like many small ones (conf/shards).
Prints the folder for data=shards data.root= last; the same command goes on where it was stopped.

examples:
  mgie prepare preview data=photo_edits preview.count=40
  mgie prepare preview data=photo_edits_mixed data.root=my_photos preview.split=test preview.path=sheet.png
  mgie prepare check data=imagefolder data.root=my_pairs check.also_exclude=[unedited]
  mgie prepare cache size=llava_7b data=imagefolder data.root=my_pairs data.cache=my_cache
  mgie prepare expressive data=ma5k data.root=ma5k expressive.path=ma5k.jsonl \\
    expressive.deriver.model=$LLAVA expressive.summariser.model=$FLAN_T5
  mgie prepare shards data=ipr2pr data.root=pairs data.expressive=words.jsonl shards.path=ipr2pr_shards
"""


def run(argv: list[str]) -> None:
    """Run a step of the preparation of data.

    Args:
        argv: The step, then overrides.

    Raises:
        ConfigError: The step does not exist, or the config is faulty.
    """
    if HELP_FLAGS & set(argv):
        sys.stdout.write(overrides_help(HELP, has_flags=False))
        return
    if not argv or argv[0] not in STEPS:
        raise ConfigError(f"expected {', '.join(STEPS)}, got {argv[0] if argv else 'nothing'}; see --help")
    import_module(f"mgie_lit.cli.prepare_{argv[0]}").run(argv[1:])
