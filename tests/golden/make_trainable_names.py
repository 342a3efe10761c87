"""Record which parameters train, ``trainable_paper_tiny.json``: ``python tests/golden/make_trainable_names.py``."""

from __future__ import annotations

import json
from pathlib import Path

from mgie_lit.config.build import build_editor
from mgie_lit.config.compose import compose_config
from mgie_lit.config.runs import versions
from mgie_lit.models.freezing import set_trainable

OVERRIDES = ["size=tiny", "trainable=paper"]
FILE = Path(__file__).with_name("trainable_paper_tiny.json")


def main() -> None:
    config = compose_config("train", OVERRIDES)
    names = set_trainable(build_editor(config), list(config.model.trainable[config.trainable]))
    packages = versions()["packages"]
    origin = {
        "command": "python tests/golden/make_trainable_names.py",
        "what": "names of the parameters that train, in the editor's order",
        "overrides": OVERRIDES,
        "versions": {name: packages[name] for name in ("torch", "transformers", "diffusers")},
    }
    FILE.write_text(json.dumps({"origin": origin, "names": names}, indent=1) + "\n")


if __name__ == "__main__":
    main()
