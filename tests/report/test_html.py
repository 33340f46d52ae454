import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from dosimeter.core import figures
from dosimeter.core.progress import listening
from dosimeter.core.result import Provenance, Result, Table
from dosimeter.report.html import render_html
from dosimeter.report.json import render_json
from dosimeter.report.wording import number_text
from dosimeter.study.outcome import Bill, Cell, CellOutcome, StudyOutcome

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Page(HTMLParser):
    """Elements as (path of tags, attributes, own text), in order; checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[list[str], dict[str, str | None], list[str]]] = []
        self._open: list[tuple[list[str], dict[str, str | None], list[str]]] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        path = [*(self._open[-1][0] if self._open else []), tag]
        element = (path, dict(attributes), [])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop()[0][-1] == tag

    def handle_data(self, data):
        for element in self._open:
            element[2].append(data)

    def all(self, tag):
        return [element for element in self.elements if element[0][-1] == tag]


@pytest.fixture(scope="module")
def text(outcome):
    return render_html(outcome)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def content(element):
    return " ".join("".join(element[2]).split())


def test_every_number_of_the_page_is_a_number_of_the_json(outcome, text, page):
    document = json.loads(render_json(outcome))
    numbers = set()

    def collect(node):
        if isinstance(node, dict | list):
            for item in node.values() if isinstance(node, dict) else node:
                collect(item)
        elif isinstance(node, int | float):
            numbers.add(float(node))

    collect(document)
    shown = [
        (float(attributes["value"]), content(element))
        for element in page.all("data")
        for attributes in [element[1]]
    ]
    assert len(shown) > 80
    assert {value for value, _ in shown} <= numbers
    assert all(text == number_text(value) for value, text in shown)


def test_every_metric_stands_in_its_evidence_with_value_interval_and_n(outcome, text):
    document = json.loads(render_json(outcome))
    sections = re.findall(r'<section class="cell".*?</section>', text, re.DOTALL)
    assert len(sections) == len(document["cells"])
    for section, cell in zip(sections, document["cells"]):
        rows = Page(re.search(r'<table class="metrics">.*?</table>', section, re.DOTALL)[0])
        names = [content(element) for element in rows.all("span") if element[1].get("class") == "name"]
        metrics = sorted(cell["result"]["metrics"], key=lambda metric: metric["control"])
        assert names == [metric["name"] for metric in metrics]
        values = [float(element[1]["value"]) for element in rows.all("data")]
        expected = [
            metric[key]
            for metric in metrics
            for key in ("value", "low", "high", "n")
            if metric[key] is not None
        ]
        assert values == expected


def test_policy_lines_show_measured_interval_and_bound(outcome, text):
    policy = Page(re.search(r'<section id="policy".*?</section>', text, re.DOTALL)[0])
    values = [float(element[1]["value"]) for element in policy.all("data")]
    expected = []
    for finding in json.loads(render_json(outcome))["findings"]:
        measured = finding["measured"]
        expected += [
            number for number in (measured["value"], measured["low"], measured["high"]) if number is not None
        ]
        expected.append(finding["bound"])
    assert values == expected


def test_contents_stand_in_order(page):
    headings = [content(element) for element in page.elements if element[0][-1] in ("h1", "h2")]
    assert headings == [
        "Digits service", "Contents", "Summary", "Policy", "Defences compared", "Encoder inference", "Encoder inference",
        "Bill", "Provenance", "Run it again", "How to read this report",
    ]  # fmt: skip


def test_verdicts_are_word_and_sign(page):
    verdicts = [
        content(element) for element in page.all("span") if "verdict" in (element[1].get("class") or "")
    ]
    assert set(verdicts) == {"✓Pass", "✕Fail", "?Undetermined", "!Error"}


def test_standard_tags_stand_with_their_names_and_taxonomies(page):
    facts = [content(element) for element in page.all("dd")]
    assert facts.count("AML.T0014 Discover AI Model FamilyAML.T0040 AI Model Inference API Access") == 2
    names = [content(element) for element in page.all("dt")]
    assert names.count("MITRE ATLAS 5.6.0") == 3
    assert "https://atlas.mitre.org/" in facts


def test_the_same_outcome_gives_the_same_page(outcome, text):
    assert render_html(outcome) == text


def test_a_single_cell_needs_no_contents(outcome):
    single = outcome.model_copy(update={"cells": outcome.cells[:1], "findings": []})
    page = Page(render_html(single))
    assert page.all("nav") == []
    assert "Defences compared" not in [content(element) for element in page.all("h2")]


def test_identifiers_are_unique_and_links_lead_somewhere(page):
    identifiers = [element[1]["id"] for element in page.elements if "id" in element[1]]
    assert len(identifiers) == len(set(identifiers))
    links = [element[1]["href"] for element in page.all("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(identifiers)
    labelled = {element[1]["aria-labelledby"] for element in page.elements if "aria-labelledby" in element[1]}
    assert labelled <= set(identifiers)


@pytest.mark.parametrize("name", ["outcome", "hostile", "empty"])
def test_the_page_allows_its_own_style_and_embedded_images_only(name, request):
    text = render_html(request.getfixturevalue(name))
    page = Page(text)
    (policy,) = [
        element[1]["content"]
        for element in page.all("meta")
        if element[1].get("http-equiv") == "Content-Security-Policy"
    ]
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("name", ["outcome", "hostile", "empty"])
def test_the_page_has_no_active_parts_whatever_the_texts_say(name, request):
    page = Page(render_html(request.getfixturevalue(name)))
    tags = {element[0][-1] for element in page.elements}
    assert not tags & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "link",
        "base",
        "foreignobject",
        "b",
    }
    assert len(page.all("style")) == 1
    for _, attributes, _ in page.elements:
        assert not any(
            name.startswith("on") or name in ("src", "style", "srcdoc", "action") for name in attributes
        )
        assert all(
            (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
            for name in ("href", "xlink:href")
        )


def test_hostile_texts_are_shown_as_they_are(hostile):
    page = Page(render_html(hostile))
    shown = [content(element) for element in page.all("h2")]
    assert "<script>alert(1)</script>" in shown
    limits = [content(element) for element in page.all("li")]
    assert "]]> --> {{ 7*7 }} {% raw %}" in limits
    assert "</style><style>body{display:none}</style>" in limits
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", render_html(hostile))


def test_figures_that_cannot_be_drawn_say_why(hostile):
    notices = [content(element) for element in Page(render_html(hostile)).all("p")]
    assert any("is not drawn: it loads 'http://127.0.0.1:9/<script>'" in notice for notice in notices)


def test_metrics_without_value_give_their_reason(hostile):
    cells = [content(element) for element in Page(render_html(hostile)).all("td")]
    assert "unresolved: 12 records cannot resolve 0.1%" in cells


def test_drawing_reports_progress(outcome):
    events = []
    with listening(events.append):
        render_html(outcome)
    assert events[-1].finished
    assert (events[-1].done, events[-1].total) == (9, 9)


def test_a_million_scores_fit_into_three_megabytes():
    generator = np.random.default_rng(0)
    scores = generator.normal(size=1_000_000)
    rows = [[index, score] for index, score in enumerate(scores.tolist())]
    result = Result(
        method="membership", title="Membership", verdict="pass", summary="s", provenance=Provenance(seed=0),
        tables=[Table.model_construct(name="scores", title="Scores", columns=["record", "score"], rows=rows, caption="")],
        figures=[
            figures.histogram("h", "Scores", "c", {"members": scores, "others": scores + 1}, x_title="score"),
            figures.ecdf("e", "Scores", "c", {"members": scores, "others": scores + 1}, x_title="score"),
        ],
    )  # fmt: skip
    outcome = StudyOutcome.model_construct(
        run="r", name="n", verdict="pass", summary="s", target="t", target_access="", spec="", command="", started="",
        cells=[CellOutcome.model_construct(cell=Cell(attack="membership"), result=result)], findings=[],
        bill=Bill(queries=0), next_step="", schema_version=1,
    )  # fmt: skip
    text = render_html(outcome)
    assert len(text.encode()) < 300_000
    assert "999,800 rows of 1,000,000 left out here" in text
    assert "999,999" in text
