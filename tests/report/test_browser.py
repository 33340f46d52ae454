"""The page in a real browser: loads nothing, breaks no policy, fits a phone, turns dark, prints, reads aloud."""

import shutil
from itertools import pairwise

import pytest

from dosimeter.report.html import render_html

pytestmark = pytest.mark.browser

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAMES = ["outcome", "hostile", "empty"]


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def addresses(outcome, hostile, empty, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    found = {}
    for name, made in zip(NAMES, (outcome, hostile, empty)):
        path = folder / f"{name}.html"
        path.write_text(render_html(made), encoding="utf-8")
        found[name] = path.as_uri()
    return found


@pytest.fixture
def visit(chromium, addresses):
    contexts = []

    def open_page(name, *, width=1200, scheme="light"):
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.seen = {"console": [], "requests": []}
        page.on("console", lambda message: page.seen["console"].append(message.text))
        page.on("pageerror", lambda error: page.seen["console"].append(str(error)))
        page.on("request", lambda request: page.seen["requests"].append(request.url))
        page.goto(addresses[name])
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_loaded_and_no_policy_broken(visit, addresses, name):
    page = visit(name)
    page.wait_for_load_state("networkidle")
    assert page.seen["console"] == []
    assert {url for url in page.seen["requests"] if not url.startswith("data:image/png;base64,")} == {
        addresses[name]
    }


def test_a_broken_policy_would_be_noticed(visit):
    page = visit("outcome")
    page.evaluate(
        """() => {
            document.body.setAttribute('style', 'margin: 1px');
            document.body.appendChild(new Image()).src = 'https://example.invalid/x.png';
        }"""
    )
    page.wait_for_timeout(200)
    assert len([line for line in page.seen["console"] if "Content Security Policy" in line]) == 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [320, 360, 705, 1200])
def test_the_page_never_scrolls_sideways(visit, name, width):
    page = visit(name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.scrollWidth") <= width


def test_wide_tables_scroll_in_their_own_box(visit):
    page = visit("outcome", width=360)
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth, b.clientWidth, b.tabIndex])"
    )
    assert any(scroll > client for scroll, client, _ in boxes)
    assert all(tab == 0 for _, _, tab in boxes)


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_background_and_figures_follow_the_theme(visit, scheme, dark):
    page = visit("outcome", scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    inks = page.evaluate(
        "[...document.querySelectorAll('.wide svg text')].map(t => getComputedStyle(t).fill)"
    )
    assert ground == ("rgb(16, 21, 28)" if dark else "rgb(255, 255, 255)")
    assert ("rgb(231, 236, 242)" in inks) == dark
    assert ("rgb(27, 36, 48)" in inks) != dark


@pytest.mark.parametrize("width", [360, 1200])
def test_every_figure_is_visible_once(visit, width):
    page = visit("outcome", width=width)
    sizes = page.evaluate(
        """[...document.querySelectorAll('figure')].map(figure =>
            [...figure.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect())
                .filter(box => box.width > 0).map(box => [box.width, box.height]))"""
    )
    assert len(sizes) == 9
    assert all(len(drawn) == 1 and min(drawn[0]) > 60 for drawn in sizes)
    assert (
        page.evaluate(
            "[...document.querySelectorAll('svg image')].filter(i => i.getBoundingClientRect().width > 20).length"
        )
        == 30
    )


def test_texts_of_figures_on_a_phone_are_large_enough(visit):
    page = visit("outcome", width=360)
    heights = page.evaluate(
        """[...document.querySelectorAll('.narrow svg text')]
            .map(t => parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"""
    )
    assert len(heights) > 50
    upright = [height for height in heights if height > 1]
    assert min(upright) >= 9


@pytest.mark.parametrize("name", NAMES)
def test_headings_landmarks_and_names(visit, name):
    page = visit(name)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for selector in ("body > header", "body > main", "body > footer"):
        assert page.locator(selector).count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"
    nameless = page.evaluate(
        """[...document.querySelectorAll('svg, nav, section, [role=region]')].filter(e =>
            !(e.getAttribute('aria-label') ||
              document.getElementById(e.getAttribute('aria-labelledby'))?.textContent.trim())).map(e => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    assert page.evaluate("[...document.querySelectorAll('svg')].every(e => e.getAttribute('role') === 'img')")


@pytest.mark.parametrize("name", NAMES)
def test_tables_have_captions_and_scopes(visit, name):
    page = visit(name)
    assert page.evaluate(
        "[...document.querySelectorAll('table')].every(t => t.caption && t.caption.textContent.trim())"
    )
    assert page.evaluate("[...document.querySelectorAll('th')].every(h => ['row', 'col'].includes(h.scope))")
    assert page.evaluate("[...document.querySelectorAll('figure')].every(f => f.querySelector('figcaption'))")


def test_print_is_light_open_and_whole(visit):
    page = visit("outcome", width=700, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--page')") == "#ffffff"
    hidden = page.evaluate(
        "[...document.querySelectorAll('details > :not(summary)')].filter(e => e.getBoundingClientRect().height < 5).length"
    )
    assert hidden == 0
    cut = page.evaluate(
        "[...document.querySelectorAll('.scroll, pre')].filter(b => getComputedStyle(b).overflowX !== 'visible').length"
    )
    assert cut == 0
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert pdf.count(b"/Type /Page\n") >= 5


def test_the_skip_link_comes_first(visit):
    page = visit("outcome")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#summary"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
