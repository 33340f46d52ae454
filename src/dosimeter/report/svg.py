"""Drawings that may stand in a page: rebuilt from the elements and attributes known to be harmless.

The drawing comes from vl-convert, its text and images from whoever made the result. So nothing is copied: each
element is written anew, escaped, or the drawing is refused.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from xml.etree import ElementTree

from dosimeter.core.errors import InputError

_ELEMENTS = re.compile(
    "svg|g|path|rect|line|circle|ellipse|text|tspan|image|defs|linearGradient|radialGradient|stop|clipPath"
)
_ATTRIBUTES = re.compile(
    "x|y|[xy][12]|dx|dy|cx|cy|r|rx|ry|fx|fy|d|width|height|viewBox|transform|preserveAspectRatio|opacity|display"
    "|fill|fill-opacity|stroke|stroke-(width|opacity|dasharray|dashoffset|linecap|linejoin|miterlimit)"
    "|gradientUnits|offset|stop-color|stop-opacity|clip-path|id|href|text-anchor|dominant-baseline"
    "|font-(size|weight|style)"
)
# Written by Vega, and said by the page itself: fonts and sharp pixels in its style sheet, the description in words.
_DROPPED = re.compile("class|role|style|font-family|pointer-events|version|space|aria-.*")
_IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]*")
_REFERENCE = re.compile(r"url\(#([\w-]+)\)")
_DECIMALS = re.compile(r"-?\d+\.\d+(e-?\d+)?")
_HIDDEN_FRAME = re.compile(r"\b(background|foreground)\b")


class DrawingRefused(InputError):
    """A figure that must not, or cannot, stand in the page."""


def rebuild(svg: str, *, identifiers: str, colours: Mapping[str, str]) -> str:
    """``svg`` as markup for an HTML page.

    Args:
        identifiers: prefix of all ``id`` in the drawing; must be unique in the page.
        colours: what to write in place of a colour.

    Raises:
        DrawingRefused: scripts, links, foreign content, references out of the drawing, broken XML.
    """
    if "<!" in svg or "<?" in svg:
        raise DrawingRefused("the drawing has a document type or instructions, which drawings must not have")
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise DrawingRefused(f"the drawing is not valid XML ({error})") from error
    names: dict[str, str] = {}
    for element in root.iter():
        if "id" in element.attrib:
            names[element.attrib["id"]] = f"{identifiers}-{len(names)}"
    return _write(root, names, colours)


def _write(element: ElementTree.Element, names: Mapping[str, str], colours: Mapping[str, str]) -> str:
    tag = _local(element.tag)
    if not _ELEMENTS.fullmatch(tag):
        raise DrawingRefused(f"the drawing has a <{tag}> element, which may load or run something")
    attributes = {}
    for key, value in element.attrib.items():
        kept = _attribute(tag, _local(key), value, names, colours)
        if kept is not None:
            attributes[_local(key)] = kept
    if (
        tag == "path"
        and _HIDDEN_FRAME.search(element.get("class", ""))
        and not {"fill", "stroke"} & set(attributes)
    ):
        return ""
    content = html.escape(element.text or "", quote=False) if tag in ("text", "tspan") else ""
    content += "".join(_write(child, names, colours) for child in element)
    if tag == "g" and (not content or not attributes):
        return content
    written = "".join(f' {key}="{html.escape(value)}"' for key, value in attributes.items())
    return f"<{tag}{written}>{content}</{tag}>" if content else f"<{tag}{written}/>"


def _attribute(
    tag: str, key: str, value: str, names: Mapping[str, str], colours: Mapping[str, str]
) -> str | None:
    """The value to write, or ``None`` to leave the attribute out."""
    if _DROPPED.fullmatch(key) or (key == "opacity" and value == "1"):
        return None
    if not _ATTRIBUTES.fullmatch(key):
        raise DrawingRefused(f"the drawing has the attribute {key}, which may load or run something")
    if key == "href":
        if tag != "image" or not _IMAGE.fullmatch(value):
            raise DrawingRefused(f"the drawing refers to '{value[:60]}'; only images inside it are allowed")
        return value
    if key == "id":
        return names[value]
    if "(" in value and key != "transform":
        reference = _REFERENCE.fullmatch(value)
        if reference and reference[1] in names:
            return f"url(#{names[reference[1]]})"
        if not re.fullmatch(r"(rgb|rgba|hsl|hsla)\([\d.,%\s-]+\)", value):
            raise DrawingRefused(f"the drawing refers to '{value[:60]}'; only parts of itself are allowed")
    if key in ("fill", "stroke", "stop-color"):
        return colours.get(value.lower(), value)
    return _DECIMALS.sub(lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), value)


def _local(name: str) -> str:
    return name.rpartition("}")[2]
