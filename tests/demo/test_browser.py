"""The page in a real browser, headless Chromium."""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mgie_lit.demo.server import Server
from mgie_lit.demo.studio import Studio
from mgie_lit.testing.random_data import random_image

if TYPE_CHECKING:
    from conftest import FakeModel
    from playwright.sync_api import Browser, Page

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect  # waits for what it expects, as one who looks at the page does
expect.set_options(timeout=15_000)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium in PATH")
WORDS, STATUS, INSTRUCTION = "#words textarea", "#status", "#instruction :is(input, textarea)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto(server.url)
    page.wait_for_selector("#edit")
    yield page
    context.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def choose(page: Page, path: Path) -> None:
    page.set_input_files("#picture input[type=file]", path)


def choose_picture(page: Page, tmp_path: Path) -> None:
    random_image(60, 40, seed=0).save(tmp_path / "a.png")
    choose(page, tmp_path / "a.png")
    page.wait_for_selector("#picture img")


PASTE = """data => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], 'pasted.png', {type: 'image/png'}));
    document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true}));
}"""


def edit(page: Page, instruction: str, name: str = "first") -> None:
    page.fill(INSTRUCTION, instruction)
    page.press(INSTRUCTION, "Enter")
    expect(page.locator(WORDS)).to_have_value(f"{name} read {instruction}")


def count(page: Page, selector: str, number: int) -> None:
    expect(page.locator(selector)).to_have_count(number)


def test_upload_edit_again_undo(browser: Browser, server: Server, tmp_path: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    requested: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    choose_picture(page, tmp_path)
    edit(page, "invert")
    count(page, "#result img", 2)
    for image in page.locator("#result img").all():
        expect(image).to_have_js_property("naturalWidth", 60)
    expect(page.locator(STATUS)).to_contain_text("first, seed 0")
    slider = page.get_by_role("slider", name="Share of the picture before")
    slider.press("ArrowLeft")
    expect(slider).to_have_attribute("aria-valuenow", "45")
    page.click("#again")
    page.wait_for_function("document.querySelector('#picture img').src.endsWith('edited.png')")
    edit(page, "and back")
    count(page, "#history img", 2)
    page.locator("#history button").first.click()
    expect(page.locator(WORDS)).to_have_value("first read invert")
    page.click("#undo")
    count(page, "#history img", 1)
    expect(page.locator(INSTRUCTION)).to_have_value("and back")
    expect(page.locator(WORDS)).to_have_value("first read invert")
    page.get_by_role("button", name="API").click()
    page.wait_for_timeout(500)
    foreign = [url for url in requested if not url.startswith((server.url, "data:", "blob:"))]
    assert (foreign, errors) == ([], [])
    assert len(requested) > 20
    context.close()


@pytest.mark.slow
def test_example_model_and_preset(page: Page, models: dict[str, FakeModel]) -> None:
    page.locator("#examples button").first.click()
    page.wait_for_selector("#picture img")
    expect(page.locator(INSTRUCTION)).to_have_value("make it black and white")
    page.click("#model input")
    page.get_by_role("option", name="second").click()
    page.click("#settings > button")
    steps = page.locator("#steps input[type=number]")
    expect(steps).to_have_value("30")
    page.get_by_label("fast").check()
    expect(steps).to_have_value("10")
    edit(page, "go", name="second")
    assert (models["second"].calls[0]["preset"], models["second"].calls[0]["num_inference_steps"]) == ("fast", 10)


def test_paste_replaces_the_picture(page: Page, tmp_path: Path) -> None:
    choose_picture(page, tmp_path)
    random_image(50, 30, seed=1).save(tmp_path / "b.png")
    page.evaluate(PASTE, base64.b64encode((tmp_path / "b.png").read_bytes()).decode())
    page.wait_for_selector(f"{STATUS}:has-text('50 x 30 pixels')")
    page.wait_for_selector("#picture img[src*='pasted.png']")


@pytest.mark.slow
@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_on_a_phone_the_result_comes_into_view(browser: Browser, server: Server, motion: Any, tmp_path: Path) -> None:  # noqa: ANN401
    context = browser.new_context(viewport={"width": 390, "height": 600}, reduced_motion=motion)
    page = context.new_page()
    page.goto(server.url)
    choose_picture(page, tmp_path)
    expect(page.locator("#result")).not_to_be_in_viewport()
    edit(page, "go")
    expect(page.locator("#result")).to_be_in_viewport(ratio=0.95)
    expect(page.locator(INSTRUCTION)).to_be_focused()
    page.wait_for_timeout(600)  # the scrolling has ended
    page.evaluate("scrollTo(0, 0)")
    page.locator("#undo").dispatch_event("click")  # not asked for by Edit: the page stays where it is
    expect(page.locator(STATUS)).to_contain_text("Taken back")
    assert page.evaluate("scrollY") == 0
    context.close()


@pytest.mark.slow
def test_compare(page: Page, tmp_path: Path, models: dict[str, FakeModel]) -> None:
    choose_picture(page, tmp_path)
    page.fill(INSTRUCTION, "go")
    page.get_by_role("tab", name="Compare").click()
    page.click("#systems input")
    page.get_by_role("option", name="second").click()
    page.fill("#seeds :is(input, textarea)", "3, 4")
    page.click("#compare")
    count(page, "#grid img", 4)
    captions = ["first, seed 3", "first, seed 4", "second, seed 3", "second, seed 4"]
    expect(page.locator("#grid .caption-label")).to_have_text(captions)
    assert [call["num_inference_steps"] for call in models["second"].calls] == [None, None]
    page.fill("#seeds :is(input, textarea)", "x")
    page.click("#compare")
    page.wait_for_selector("#compare-status [role=alert]:has-text('Seeds: expected whole numbers')")


@pytest.mark.faults
def test_faults_are_told_on_the_page(page: Page, tmp_path: Path, studio: Studio) -> None:
    page.fill(INSTRUCTION, "go")
    page.click("#edit")
    page.wait_for_selector(f"{STATUS} [role=alert]:has-text('upload or paste a picture first')")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    choose(page, tmp_path / "broken.png")
    page.wait_for_selector(f"{STATUS} [role=alert]:has-text('broken.png: expected a')")
    page.reload()
    page.wait_for_selector("#edit")
    (tmp_path / "big.png").write_bytes(b"x" * (studio.limits.bytes + 1))
    choose(page, tmp_path / "big.png")
    page.wait_for_selector("text=exceed the maximum allowed size of 20")


def test_progress_stop_and_goodbye(
    browser: Browser, server: Server, studio: Studio, tmp_path: Path, models: dict[str, FakeModel]
) -> None:
    model = models["first"]
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    choose_picture(page, tmp_path)
    page.fill(INSTRUCTION, "go")
    model.limit = 2  # two steps, then it waits
    page.click("#edit")
    page.wait_for_selector(f"{STATUS}:has-text('Step 2 of 30')")
    expect(page.locator(f"{STATUS} progress")).to_have_attribute("value", "2")
    expect(page.locator("#edit")).to_be_disabled()
    page.click("#stop")
    wait_for(lambda: studio.engine._running._stop.is_set())
    model.gate.set()
    page.wait_for_selector(f"{STATUS}:has-text('Stopped.')")
    expect(page.locator("#edit")).to_be_enabled()
    expect(page.locator("#stop")).to_be_disabled()
    assert model.steps_done == 2

    model.limit = 4
    page.click("#edit")
    page.wait_for_selector(f"{STATUS}:has-text('Step 2 of 30')")
    running = studio.engine._running
    context.close()
    model.limit, model.pause = None, 0.5  # some of the next reports finds nobody
    model.gate.set()
    wait_for(lambda: running.has_ended)
    assert 4 <= model.steps_done < 30


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_fits_and_is_readable(browser: Browser, server: Server, scheme: Any, width: int, tmp_path: Path) -> None:  # noqa: ANN401
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto(server.url)
    choose_picture(page, tmp_path)
    edit(page, " ".join(["a long instruction"] * 8))
    page.click("#settings > button")
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate(CUT_TEXTS) == []
    assert page.evaluate(LOW_CONTRASTS) == []
    context.close()


# Elements whose own text is wider than they are.
CUT_TEXTS = """() => [...document.querySelectorAll('button, label span, h1, p, .mgie-status span')]
    .filter(one => one.offsetParent && one.innerText.trim() && one.scrollWidth > one.clientWidth + 1
            && getComputedStyle(one).display != 'inline')
    .map(one => one.innerText.slice(0, 40))"""
# Texts below WCAG's 4.5 on the nearest background that is opaque; what is disabled need not be readable.
LOW_CONTRASTS = """() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    const rgba = color => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const luminance = ([red, green, blue]) => [red, green, blue].map(value => value / 255)
        .map(value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4)
        .reduce((sum, value, index) => sum + value * [.2126, .7152, .0722][index], 0);
    const behind = one => {
        for (; one; one = one.parentElement) {
            const color = rgba(getComputedStyle(one).backgroundColor);
            if (color[3] == 255) return color;
        }
        return [255, 255, 255, 255];
    };
    const low = [];
    for (const one of document.querySelectorAll('body *')) {
        const own = [...one.childNodes].some(node => node.nodeType == 3 && /[\\p{L}\\d]/u.test(node.textContent));
        if (!own || !one.offsetParent || one.closest(':disabled, [aria-disabled=true], script, style')) continue;
        const [front, back] = [rgba(getComputedStyle(one).color), behind(one)].map(luminance);
        const contrast = (Math.max(front, back) + .05) / (Math.min(front, back) + .05);
        if (contrast < 4.5) low.push(`${one.innerText.slice(0, 30)}: ${contrast.toFixed(2)}`);
    }
    return low;
}"""
