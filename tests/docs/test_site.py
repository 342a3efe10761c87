"""The site as `make docs` builds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_site_has_all_kinds_of_pages(site: Path) -> None:
    for page in ("index", "install", "tutorials/index", "how-to/index", "reference/cli", "reference/licences"):
        assert (site / f"{page}.html").is_file(), page
    assert (site / "reference" / "api" / "mgie_lit.functional.html").is_file()
    assert len(list((site / "reference" / "config").glob("*.html"))) >= 20
    assert len(list(site.rglob("*.html"))) >= 80


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)="?(https?:[^"\s>]+)', text)
        assert loaded == [], page.name
    for style in site.rglob("*.css"):
        assert re.findall(r"url\(\"?https?:", style.read_text(encoding="utf-8")) == [], style.name


def test_formulas_are_drawn_and_tables_are_tables(site: Path) -> None:
    metrics = (site / "metrics.html").read_text(encoding="utf-8")
    assert metrics.count("<math") >= 10
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "arithmatex" not in text, page.name
        assert not re.search(r"<p>\|", text), f"{page.name}: a table without a blank line before it"


def test_keys_have_values_comments_and_docstrings(site: Path) -> None:
    data = (site / "reference" / "config" / "data.html").read_text(encoding="utf-8")
    row = re.search(r"<tr>\s*<td><code>streaming_mib</code></td>(.*?)</tr>", data, re.DOTALL)
    assert row is not None
    assert "<code>256</code>" in row[1]
    assert "MiB" in row[1]
    assert 'href="../../datasets.html#ipr2pr"' in data
    head = (site / "reference" / "config" / "size.html").read_text(encoding="utf-8")
    assert 'href="../api/mgie_lit.models.html#mgie_lit.models.edit_head.EditHead"' in head


def test_links_of_the_readme_lead_to_pages(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="numerics.html"' in text
    assert 'href="contributing.html"' in text
    assert (site / "files" / "LICENSE.txt").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desktop"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_the_screen(width: int, scheme: Literal["light", "dark"], site: Path) -> None:
    browser_path = shutil.which("chromium")
    if browser_path is None:
        pytest.skip("no Chromium here")
    from playwright.sync_api import sync_playwright

    pages = [
        "index",
        "install",
        "how-to/index",
        "metrics",
        "datasets",
        "how-to/add_a_system",
        "tutorials/index",
        "tutorials/02_one_batch",
    ]
    pages += [
        "reference/cli",
        "reference/config/data",
        "reference/config/experiment",
        "reference/api/mgie_lit.data.readers",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        for page in pages:
            tab.goto((site / f"{page}.html").as_uri())
            too_wide = tab.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert too_wide <= 0, f"{page} is {too_wide} px wider than the screen"
            shown = tab.evaluate("[document.body.dataset.mdColorScheme, document.querySelectorAll('h1').length]")
            assert shown == ["default" if scheme == "light" else "slate", 1], page
            assert tab.evaluate(LOW_CONTRASTS) == [], page
            assert tab.evaluate(OUTSIDE) == [], page
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


# Texts below WCAG's 4.5 on what lies behind them, with all that is half transparent; the search is closed.
LOW_CONTRASTS = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = color => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
        return [red, green, blue, alpha / 255];
    };
    const over = ([r, g, b, alpha], back) => [r, g, b].map((value, place) => alpha * value + (1 - alpha) * back[place]);
    const behind = one => !one ? [255, 255, 255]
        : over(rgba(getComputedStyle(one).backgroundColor), behind(one.parentElement));
    const opacity = one => !one ? 1 : getComputedStyle(one).opacity * opacity(one.parentElement);
    const luminance = color => color.map(value => value / 255)
        .map(value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4)
        .reduce((sum, value, index) => sum + value * [.2126, .7152, .0722][index], 0);
    const low = [];
    for (const one of document.querySelectorAll('body *')) {
        const own = [...one.childNodes].some(node => node.nodeType == 3 && /[\\p{L}\\d]/u.test(node.textContent));
        const seen = opacity(one);
        if (!own || !one.offsetParent || !seen || one.closest('script, style, .md-search, .headerlink')) continue;
        const back = behind(one), [red, green, blue, alpha] = rgba(getComputedStyle(one).color);
        const values = [over([red, green, blue, alpha * seen], back), back].map(luminance);
        const contrast = (Math.max(...values) + .05) / (Math.min(...values) + .05);
        if (contrast < 4.5) low.push(`${one.innerText.slice(0, 30)}: ${contrast.toFixed(2)}`);
    }
    return low;
}"""
# Cells of tables made to fit a phone that do not, and lines of help that run out of their box.
OUTSIDE = """() => [...document.querySelectorAll('.stacked td, .wrapped pre > code')]
    .filter(one => one.scrollWidth > one.clientWidth + 1 || one.getBoundingClientRect().right > innerWidth)
    .map(one => one.innerText.slice(0, 40))"""
