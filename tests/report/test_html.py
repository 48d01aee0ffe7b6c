from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.report.html import POLICY, element, page

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1)


class Parsed(HTMLParser):
    """Tags, attributes and the body's text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], {}, ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes[tag] = dict(attrs)

    def handle_data(self, data):
        if "body" in self.tags:
            self.text += data


@given(TEXT, TEXT)
def test_text_is_always_escaped(text, other):
    parsed = Parsed(page(text, "p {}", element("p", text, element("b", other), other, title=other)))
    assert parsed.tags == ["html", "head", *["meta"] * 3, "title", "style", "body", "p", "b"]
    assert parsed.text == text + other + other + "\n"
    assert parsed.attributes["p"] == {"title": other}


def test_attribute_names_are_those_of_html():
    text = element("text", "a", class_="b", text_anchor="end", viewBox="0 0 1 1")
    assert text.attrib == {"class": "b", "text-anchor": "end", "viewBox": "0 0 1 1"}


def test_a_page_loads_nothing_from_elsewhere():
    assert POLICY.startswith("default-src 'none'")
    assert f'content="{POLICY}"' in page("a", "", element("p"))
