"""Static HTML from elements, so that text is always escaped."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content security policy of a page: a browser loads nothing from elsewhere."""


def element(tag: str, *children: Element | str, **attributes: object) -> Element:
    """Return an element of HTML or SVG.

    Args:
        tag: Name of the element.
        children: Elements and text, in order.
        attributes: Attributes by name, with `_` instead of `-`, and with a trailing `_` after a Python
            keyword, as in `class_`.
    """
    result = Element(
        tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()}
    )
    for child in children:
        if isinstance(child, Element):
            result.append(child)
        elif len(result):
            result[-1].tail = (result[-1].tail or "") + child
        else:
            result.text = (result.text or "") + child
    return result


def page(title: str, style: str, *body: Element) -> str:
    """Return a complete page.

    Args:
        title: Title of the browser window.
        style: CSS.
        body: Elements of the body.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", style),
    )
    document = element("html", head, element("body", *body), lang="en")
    return f"<!DOCTYPE html>\n{ElementTree.tostring(document, encoding='unicode', method='html')}\n"
