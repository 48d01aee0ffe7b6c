"""Static HTML, made of elements, so that text is always escaped."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""What a browser may load for a page: nothing but what stands in it."""


def element(tag: str, *children: Element | str, **attributes: object) -> Element:
    """An element of HTML or SVG.

    Args:
        tag: Its name.
        children: Elements and text, in order.
        attributes: By name, with `_` for `-`, and one behind the name where Python has a keyword: `class_`.
    """
    made = Element(
        tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
    )
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def page(title: str, style: str, *body: Element) -> str:
    """A whole page.

    Args:
        title: Of the browser's window.
        style: CSS.
        body: What stands in it.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", style),
    )
    whole = element("html", head, element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{ElementTree.tostring(whole, encoding='unicode', method='html')}\n"
