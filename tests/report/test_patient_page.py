# Covers: ehr_bert.report.patient_page, ehr_bert.report.patient_drawings
import base64
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest

from ehr_bert.prediction.explaining.attributions import Attribution
from ehr_bert.prediction.explaining.explanation import Explanation
from ehr_bert.report.patient_drawings import attention_strips, bar, heat_map, risk_scale, visit_chart
from ehr_bert.report.patient_page import patient_page
from tests.report.test_html import Parsed

EVIL = "<script>alert('x')</script>\"&"
LAYERS, HEADS = 2, 3


@pytest.fixture
def explanation():
    rng = np.random.default_rng(0)
    contributions = np.array([0.5, -0.25, 1.0, 0.004, -0.75])
    return Explanation(
        codes=np.array(["ICD9_428.0", "ICD10_I50", EVIL, "ICD10_E11.9", "ICD10_E11.99"], object),
        read_as=np.array(["ICD9_428.0", "ICD10_I50", "[UNK]", "ICD10_E11.9", "ICD10_E11.9"], object),
        visits=np.array([2, 2, 3, 5, 5]),
        contributions=contributions,
        attribution=Attribution(contributions, contributions.sum() - 1.5, -1.5, 32),
        risk=0.25,
        blank_risk=0.1,
        attention=rng.random((LAYERS, HEADS, 5)).astype(np.float32),
        from_first=True,
        visit_attention=rng.random((LAYERS, HEADS, 4, 4)).astype(np.float32),
        admit_date=np.array(["2001-01-01", "2001-02-03", "NaT", "2002-01-01", "2003-04-05"], "datetime64[D]"),
        los_days=np.array([0, 1, 4, 2, 9], np.int32),
        left_out=7,
    )


def test_the_page_has_all_parts(explanation):
    text = Parsed(patient_page(explanation, "Risk of falls", ["row 3", "age 61"])).text
    for part in (
        *("Risk of falls: 25.0%", "row 3 · age 61", "this history 25.0%", "without codes 10.0%"),
        *("The codes change the logit by +0.50, from −1.50 to −1.00", "as expected"),  # noqa: RUF001
        *("7 codes of the history are not read", "Congestive heart failure, unspecified"),
        "[Congestive heart failure; nonhypertensive]",
        "(read as ICD10_E11.9 Type 2 diabetes mellitus without complications)",
        *("visit 2, 2001-02-03, 1 day+0.25", "visit 3, 4 days+1.00", "visit 5, 2003-04-05, 9 days−0.75"),  # noqa: RUF001
        *("Layer 2", "head 3", "Attention from the first token"),
    ):
        assert part in text


def test_the_largest_contributions_come_first(explanation):
    text = patient_page(explanation, "Risk", [])
    largest = text[text.index("Largest contributions") : text.index("Contributions by visit")]
    codes = re.findall(r"<code>(.*?)</code>", largest)
    expected = ["&lt;script&gt;", "ICD10_E11.99", "ICD9_428.0", "ICD10_I50", "ICD10_E11.9"]
    assert all(code.startswith(begin) for code, begin in zip(codes, expected, strict=True))


def test_a_code_of_several_visits_has_one_row_in_the_first_table(explanation):
    twice = replace(explanation, codes=explanation.codes[[0, 1, 2, 3, 0]])
    page = patient_page(twice, "Risk", [])
    text = Parsed(page).text
    assert "Congestive heart failure, unspecified2 visits−0.25" in text  # noqa: RUF001
    assert page.count("<code>ICD9_428.0</code>") == 3


def test_untrusted_text_is_escaped(explanation):
    titles = {"ICD9_428.0": EVIL, "ICD10_I50": "</title></svg><img src=x onerror=alert(1)>"}
    page = patient_page(explanation, EVIL, [EVIL], titles)
    parsed = Parsed(page)
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert "<script" not in page
    assert not [name for attributes in parsed.attributes.values() for name in attributes if name[:2] == "on"]
    assert EVIL in parsed.text


def test_nothing_is_loaded_from_elsewhere(explanation):
    page = patient_page(explanation, "Risk", [])
    assert not re.search(r"https?://|url\(|@import|<link|<script|\bsrc=", page)
    assert all(address.startswith("data:image/png;base64,") for address in re.findall(r'href="([^"]*)', page))
    assert page == patient_page(explanation, "Risk", [])


def test_incomplete_contributions_are_reported(explanation):
    rough = replace(explanation, attribution=replace(explanation.attribution, logit=0.5), left_out=0)
    text = Parsed(patient_page(rough, "Risk", [])).text
    assert "sum to +0.50 instead of +2.00. They are approximate." in text
    assert "are not read" not in text


def pixels(image):
    data = base64.b64decode(image.get("href").partition(",")[2])
    return matplotlib.image.imread(io.BytesIO(data))[..., :3]


def test_attention_has_one_pixel_per_head_and_code():
    attention = np.array([[0.1, 0.2, 0.0], [0.9, 0.3, 0.6]], np.float32)
    drawing = attention_strips(attention, np.array([1, 1, 4]), ["one", "two", EVIL])
    darkness = 3 - pixels(drawing.find("image")).sum(axis=-1)
    assert darkness.shape == (2, 3)
    assert np.array_equal(darkness.argsort(axis=1), attention.argsort(axis=1))
    assert darkness[0].max() == darkness[1].max()
    assert [title.text for title in drawing.findall("rect/title")] == ["one", "two", EVIL]
    assert [text.text for text in drawing.findall("text")] == ["head 1", "head 2", "1", "4"]


def test_drawings_fit_their_view_box_and_bars_are_to_scale():
    values = np.array([0.5, -2.0, 1.0])
    for drawing in (
        visit_chart(values, ["2001-01-01", "2002-01-01", "visit 3"]),
        visit_chart(-np.abs(values), ["1", "2", "3"]),
        *(bar(value, 2.0) for value in values),
        *(risk_scale(*risks) for risks in ((0.0, 1.0), (1.0, 0.5), (0.2, 0.2))),
        heat_map(np.eye(4), "eye"),
    ):
        left, top, width, height = map(float, drawing.get("viewBox").split())
        assert float(drawing.get("width")) == width
        for part in drawing.findall("rect"):
            x, y, wide, high = (float(part.get(name)) for name in ("x", "y", "width", "height"))
            assert left <= x <= x + wide <= left + width + 0.02
            assert top <= y <= y + high <= top + height + 0.02
        for text in drawing.findall("text"):
            assert left <= float(text.get("x")) <= left + width
            assert top <= float(text.get("y")) <= top + height
        ElementTree.fromstring(ElementTree.tostring(drawing))
    heights = [float(part.get("height")) for part in visit_chart(values, "abc").findall("rect")]
    np.testing.assert_allclose(np.array(heights) / heights[0], [1, 4, 2], rtol=1e-3)
