"""What the site's pages are made by, piece by piece."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from mkdocs.exceptions import PluginError
from nbformat import v4

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs" / "hooks"))  # as MkDocs does for its hooks

import cli_reference  # noqa: E402
import config_comments  # noqa: E402
import config_reference  # noqa: E402
import doctest_blocks  # noqa: E402
import licences  # noqa: E402
import mathematics  # noqa: E402
import navigation_folders  # noqa: E402
import repository_pages  # noqa: E402
import search_ranks  # noqa: E402
import tutorial_pages  # noqa: E402

if TYPE_CHECKING:
    from config_comments import Key

YAML = """\
# @package _global_
# mgie train experiment=x
# What it is for.
defaults:
  - _self_
  - size: tiny  # all parts
  - override /metrics: edit

lr: 5.0e-4  # peak, after warm-up

# Words
text: "a # b"  # a comment
scale:  # by part
  unet: 2.0
  betas: [0.9,
          0.99]  # of AdamW
list:
  - a
  - b
long: >-
  one
  two
empty: {}
"""


def as_rows(keys: list[Key]) -> list[tuple[str, str, str]]:
    return [(key.name, key.value, key.comment) for key in keys]


def test_keys_of_a_config_have_values_and_comments() -> None:
    assert as_rows(config_comments.read_keys(YAML)) == [
        ("lr", "5.0e-4", "peak, after warm-up"),
        ("", "", "Words"),
        ("text", '"a # b"', "a comment"),
        ("scale", "", "by part"),
        ("scale.unet", "2.0", ""),
        ("scale.betas", "[0.9, 0.99]", "of AdamW"),
        ("list", "[a, b]", ""),
        ("long", "one two", ""),
        ("empty", "{}", ""),
    ]


def test_head_and_parts_of_a_config() -> None:
    head, parts = config_comments.read_parts(YAML)
    assert head == "mgie train experiment=x\nWhat it is for."
    assert as_rows(parts) == [("size=tiny", "", "all parts"), ("override /metrics=edit", "", "")]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").rglob("*.yaml")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_no_key_and_no_comment_of_a_config_is_lost(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    head, parts = config_comments.read_parts(text)
    shown = " ".join([head, *(f"{key.name} {key.comment}" for key in [*parts, *config_comments.read_keys(text)])])
    for line in text.splitlines():
        comment = line.partition("  # ")[2] or (line.strip("# ") if line.lstrip().startswith("#") else "")
        assert comment in shown or "@package" in comment, comment


def test_pages_of_the_config_say_what_comments_and_docstrings_say() -> None:
    pages = config_reference.pages()
    assert "| `lr` | `5.0e-4` | peak, base of all groups |" in pages["optimizer.md"]
    # no comment in the file: the words of the class
    row = next(line for line in pages["size.md"].splitlines() if line.startswith("| `edit_head.num_queries` | `8`"))
    assert len(row.split("|")[3].strip()) > 10
    assert "[`mgie_lit.metrics.pixel.L1`][mgie_lit.metrics.pixel.L1]" in pages["metrics.md"]
    assert "[Data sets](../../datasets.md#ipr2pr)" in pages["data.md"]
    assert "```bash\nmgie train experiment=smoke\n```" in pages["experiment.md"]


def test_what_is_chosen_by_hand_comes_first() -> None:
    names = ["reader._target_", "reader.root", "root", "part._target_", "part.size", "", "_partial_", "lr"]
    ordered = config_reference.in_order_of_use([config_comments.Key(name, "", "") for name in names])
    assert [key.name for key in ordered] == [
        *("root", "part.size", "part._target_", "reader.root", "reader._target_"),
        *("", "lr", "_partial_"),
    ]


def test_guides_come_before_the_code_in_the_search() -> None:
    rank = search_ranks.rank_of
    assert rank("training.md") == rank("how-to/index.md") > rank("reference/config/data.md")
    assert rank("reference/cli.md") > rank("reference/api/mgie_lit.training.md")


def test_help_of_all_commands_is_there() -> None:
    page = cli_reference.page()
    for command in cli_reference.COMMANDS:
        assert f"## mgie {command}\n" in page
    assert "config groups:" not in page


def test_links_lead_to_pages_of_the_site() -> None:
    place = repository_pages.place_of
    assert place("README.md") == "index.md"
    assert place("docs/models.md") == "models.md"
    assert place("notebooks/README.md") == "tutorials/index.md"
    assert place("notebooks/02_one_batch.ipynb") == "tutorials/02_one_batch.md"
    assert place("LICENSE") == "files/LICENSE.txt"
    text = "[a](x)\n```bash\n[b](x)\n```\n[c](x)"
    assert repository_pages.outside_fences(text, lambda part: part.replace("(x)", "(y)")).count("(y)") == 2


def test_a_folder_in_the_navigation_is_its_pages() -> None:
    pages = ["a/b.md", "a/index.md", "a/a.b.md", "a/a.md", "a/deep/x.md", "c.md"]
    filled = navigation_folders._filled([{"A": "a/"}, "c.md"], pages)
    assert filled == [{"A": ["a/index.md", "a/a.md", "a/a.b.md", "a/b.md"]}, "c.md"]


def test_formulas_become_mathml() -> None:
    drawn = mathematics.on_page_content(r'<p><span class="arithmatex">\(a &lt; b\)</span></p>')
    assert drawn.startswith("<p><math")
    assert "&#x0003C;" in drawn or "&lt;" in drawn
    block = mathematics.on_page_content('<div class="arithmatex">\\[\nx^2\n\\]</div>')
    assert 'display="block"' in block
    assert mathematics.formula(r"\big\lVert x \big\rVert", is_block=False).count("&#x02016;") == 2
    with pytest.raises(PluginError, match=r"expected LaTeX that latex2mathml knows, got \\big\\langle"):
        mathematics.formula(r"\big\langle", is_block=False)


def test_doctests_become_blocks() -> None:
    class Docstring:
        value = "Words.\n\n>>> f(1)\n2\n\nMore."

    class Object:
        docstring = Docstring()

    made: Any = Object()
    doctest_blocks.DoctestBlocks().on_object(obj=made)
    assert made.docstring.value == "Words.\n\n```pycon\n>>> f(1)\n2\n```\n\nMore."


def test_a_notebook_becomes_a_page() -> None:
    output = v4.new_output
    cells = [
        v4.new_markdown_cell("# Title\n\n$x$"),
        v4.new_code_cell(
            "print(1)",
            outputs=[
                output("stream", name="stdout", text="\x1b[?25l\x1b[1m50 %\r100 %\x1b[0m\n<"),
                output("stream", name="stdout", text="b>\n\n/x/mgie-docs-ab12/runs\n"),
                output("stream", name="stderr", text="progress"),
                output("display_data", {"image/png": "aGk=", "text/plain": "<Figure>"}),
                output("execute_result", {"text/html": "<style>p</style><table>\n\n</table>", "text/plain": "t"}),
            ],
        ),
        v4.new_code_cell("%%bash -e\nmgie edit"),
    ]
    pictures: dict[str, bytes] = {}
    page = tutorial_pages.page_of(v4.new_notebook(cells=cells), "01_x", pictures)
    assert pictures == {"01_x-1.png": b"hi"}
    assert "# Title\n\n$x$\n\n```python\nprint(1)\n```" in page
    assert '<pre class="output">100 %\n&lt;b&gt;\n&#8203;\n/runs</pre>' in page
    assert "(01_x-1.png)" in page
    assert '<div class="output">\n<table>\n</table>\n</div>' in page
    assert "```bash\nmgie edit\n```" in page
    assert "progress" not in page


@pytest.mark.slow
def test_notebooks_are_run_where_that_is_asked() -> None:
    notebook = nbformat.from_dict(v4.new_notebook(cells=[v4.new_code_cell("!mgie --version\nprint(6 * 7)")]))
    tutorial_pages.execute(notebook)
    page = tutorial_pages.page_of(notebook, "x", {})
    assert "mgie 0." in page
    assert "42" in page


def test_every_package_has_a_licence() -> None:
    reasons = licences.needed()
    assert reasons["torch"] == {licences.CORE}
    assert reasons["gradio"] == {"demo"}
    assert reasons["pytest"] == {"dev"}
    assert len(reasons) >= 100
    page = licences.page()
    assert "| torch | " in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert [row[0] for row in rows if not row[2].strip()] == []
