import pytest

from dosimeter.report.svg import DrawingRefused, rebuild

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'


def rebuilt(inside: str) -> str:
    return rebuild(f"{HEAD}{inside}</svg>", identifiers="f1", colours={"#000": "var(--ink)"})


def test_text_stays_escaped_and_colours_are_replaced():
    assert (
        rebuilt('<text class="x" style="y" fill="#000">&lt;script&gt; &amp; "</text>')
        == '<svg><text fill="var(--ink)">&lt;script&gt; &amp; "</text></svg>'
    )


def test_identifiers_are_renamed_with_their_references():
    assert rebuilt(
        '<g clip-path="url(#clip7)"><rect/></g><defs><clipPath id="clip7"><path d="M0,0"/></clipPath></defs>'
    ) == (
        '<svg><g clip-path="url(#f1-0)"><rect/></g><defs><clipPath id="f1-0"><path d="M0,0"/></clipPath></defs></svg>'
    )


def test_numbers_are_shortened_and_empty_parts_dropped():
    assert (
        rebuilt(
            '<g><g><path class="background" d="M0,0h0"/></g><path d="M1.23456,-0.00001L2,1e-7" fill="none"/></g>'
        )
        == '<svg><path d="M1.23,-0L2,1e-7" fill="none"/></svg>'
    )


def test_embedded_images_stay():
    image = '<image href="data:image/png;base64,iVBORw0K" width="4"/>'
    assert rebuilt(image.replace("href", "xlink:href")) == f"<svg>{image}</svg>"


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        ("<script>alert(1)</script>", "<script> element"),
        ("<foreignObject><p>x</p></foreignObject>", "<foreignObject> element"),
        ('<a xlink:href="https://example.org"><rect/></a>', "<a> element"),
        ("<style>@import url(x)</style>", "<style> element"),
        ('<use href="#x"/>', "<use> element"),
        ('<animate attributeName="x"/>', "<animate> element"),
        ('<rect onclick="alert(1)"/>', "attribute onclick"),
        ('<rect filter="url(#x)"/>', "attribute filter"),
        ('<rect href="https://example.org"/>', "refers to 'https://example.org'"),
        ('<image href="https://example.org/x.png"/>', "only images inside it"),
        ('<image href="data:image/svg+xml;base64,AAAA"/>', "only images inside it"),
        ('<image href="javascript:alert(1)"/>', "only images inside it"),
        ('<rect fill="url(https://example.org#x)"/>', "only parts of itself"),
        ('<rect fill="url(#elsewhere)"/>', "only parts of itself"),
        ("<rect", "not valid XML"),
        ("<![CDATA[x]]>", "document type or instructions"),
    ],
)
def test_what_could_load_or_run_is_refused(inside, message):
    with pytest.raises(DrawingRefused, match=message):
        rebuilt(inside)


def test_document_type_is_refused():
    with pytest.raises(DrawingRefused, match="document type"):
        rebuild('<!DOCTYPE svg [<!ENTITY a "b">]>' + HEAD + "</svg>", identifiers="f", colours={})
