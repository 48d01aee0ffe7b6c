"""HTML page that explains the prediction for one patient, in one file that loads nothing from elsewhere.

The page contains the diagnoses of a patient. Store it as securely as the records.
"""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

import numpy as np

from ehr_bert.codes.titles import titles_of
from ehr_bert.prediction.explaining.explanation import Explanation
from ehr_bert.report.html import element, page
from ehr_bert.report.patient_drawings import attention_strips, bar, heat_map, risk_scale, signed, visit_chart

LISTED_CODES = 10
"""Number of codes in the first table, where all occurrences of a code are one row."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937; max-width: 960px; margin: 2rem auto }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem }
h3 { font-size: .95rem; margin: 1rem 0 .2rem } p { margin: .4rem 0; max-width: 46rem }
.quiet { color: #6b7280 } .warning { color: #b91c1c; font-weight: 600 }
.wide { overflow-x: auto } svg { max-width: none; vertical-align: middle }
table { border-collapse: collapse; width: 100%; font-size: 14px }
td, th { text-align: left; padding: .15rem .6rem .15rem 0; vertical-align: top }
th { font-weight: 600; border-bottom: 1px solid #d1d5db } .number { text-align: right; white-space: nowrap }
tr.visit td { font-weight: 600; border-top: 1px solid #d1d5db; padding-top: .5rem }
code { font-size: 13px; white-space: nowrap } figure { display: inline-block; margin: .3rem .6rem .3rem 0 }
figcaption { font-size: 11px; color: #6b7280; text-align: center }
@media print { body { margin: 0 } tr, svg { break-inside: avoid } }
"""


def patient_page(
    explanation: Explanation, heading: str, facts: Sequence[str], titles: Mapping[str, str] | None = None
) -> str:
    """Return the page as HTML.

    Args:
        explanation: Explanation to show.
        heading: Name of the predicted risk.
        facts: Facts of the example, for the line under the heading.
        titles: User-defined titles of codes.
    """
    title_of = titles_of([*explanation.codes, *explanation.read_as], titles)
    return page(
        heading,
        STYLE,
        *_summary(explanation, heading, facts),
        *_largest_contributions(explanation, title_of),
        *_visits(explanation),
        *_history(explanation, title_of),
        *_attention(explanation, title_of),
    )


def _summary(explanation: Explanation, heading: str, facts: Sequence[str]) -> list[Element]:
    attribution = explanation.attribution
    added = attribution.logit - attribution.blank_logit
    sums = (
        f"The codes change the logit by {signed(added)}, from {signed(attribution.blank_logit)} to "
        f"{signed(attribution.logit)}. Integrated gradients assign a part of this change to each code: its "
        "contribution."
    )
    total = f"The contributions sum to {signed(attribution.contributions.sum())}"
    if attribution.is_complete:
        check = element("p", f"{total}, as expected.", class_="quiet")
    else:
        check = element("p", f"{total} instead of {signed(added)}. They are approximate.", class_="warning")
    left_out = (
        f"{explanation.left_out:,} codes of the history are not read, because the model does not know "
        "them or because the history is too long, in which case the earliest codes are left out."
    )
    return [
        element("h1", f"{heading}: {explanation.risk:.1%}"),
        element("p", " · ".join(facts), class_="quiet"),
        element("div", risk_scale(explanation.risk, explanation.blank_risk), class_="wide"),
        element("p", sums),
        check,
        *([element("p", left_out)] if explanation.left_out else []),
    ]


def _largest_contributions(explanation: Explanation, title_of: Mapping[str, str]) -> list[Element]:
    first, sums, counts = explanation.by_code
    order = np.argsort(-np.abs(sums), kind="stable")[:LISTED_CODES]
    largest = float(np.abs(sums).max())
    rows = []
    for index, added, count in zip(first[order], sums[order].tolist(), counts[order], strict=True):
        occurrence = f"visit {explanation.visits[index]}" if count == 1 else f"{count} visits"
        rows.append(_row(explanation, index, title_of, occurrence, added, largest))
    return [
        element("h2", "Largest contributions"),
        element("table", _header("code", "title", "occurrence", "contribution", ""), *rows),
    ]


def _visits(explanation: Explanation) -> list[Element]:
    names = [_visit_name(explanation, visit) for visit in explanation.visit_numbers.tolist()]
    chart = visit_chart(explanation.visit_contributions, names)
    return [element("h2", "Contributions by visit"), element("div", chart, class_="wide")]


def _history(explanation: Explanation, title_of: Mapping[str, str]) -> list[Element]:
    rows, largest = [], float(np.abs(explanation.contributions).max())
    for visit, contribution in zip(
        explanation.visit_numbers.tolist(), explanation.visit_contributions.tolist(), strict=True
    ):
        days = int(explanation.los_days[visit - 1])
        stay = f"visit {visit}, {_date(explanation, visit)}{days} day{'s' * (days != 1)}"
        total = element("td", signed(contribution), class_="number")
        rows.append(element("tr", element("td", stay, colspan=3), total, element("td"), class_="visit"))
        indices = np.flatnonzero(explanation.visits == visit).tolist()
        rows += [
            _row(explanation, index, title_of, "", float(explanation.contributions[index]), largest)
            for index in indices
        ]
    return [
        element("h2", "History"),
        element("table", _header("code", "title", "", "contribution", ""), *rows),
    ]


def _attention(explanation: Explanation, title_of: Mapping[str, str]) -> list[Element]:
    reader = "the first token" if explanation.from_first else "all tokens (mean)"
    about = (
        f"Attention from {reader} to each code, by layer and head. Each column is a code, and a vertical "
        "line marks the start of a visit. Each row has a separate colour scale. Attention shows which "
        "tokens a layer combines, not what the risk depends on."
    )
    has_cls = explanation.visit_attention.shape[-1] > len(explanation.visit_numbers)
    between = (
        "Mean attention from the tokens of each visit (row) to the tokens of each visit (column), from the "
        f"earliest to the latest{', after [CLS]' * has_cls}. The colour shows the square root of the weight."
    )
    codes = [
        f"visit {visit}: {code} {title_of[code]}".rstrip()
        for visit, code in zip(explanation.visits.tolist(), explanation.codes, strict=True)
    ]
    strips, maps = [], []
    for layer, (to_codes, by_visit) in enumerate(
        zip(explanation.attention, explanation.visit_attention, strict=True), start=1
    ):
        strips += [
            element("h3", f"Layer {layer}"),
            element("div", attention_strips(to_codes, explanation.visits, codes), class_="wide"),
        ]
        squares = [
            element(
                "figure",
                heat_map(shares, f"layer {layer}, head {head}"),
                element("figcaption", f"head {head}"),
            )
            for head, shares in enumerate(by_visit, start=1)
        ]
        maps += [element("h3", f"Layer {layer}"), element("div", *squares)]
    return [
        element("h2", "Attention to codes"),
        element("p", about, class_="quiet"),
        *strips,
        element("h2", "Attention between visits"),
        element("p", between, class_="quiet"),
        *maps,
    ]


def _row(
    explanation: Explanation,
    index: int,
    title_of: Mapping[str, str],
    occurrence: str,
    contribution: float,
    largest: float,
) -> Element:
    """Return the table row of a code. `largest` is the largest contribution of the table."""
    code, token = explanation.codes[index], explanation.read_as[index]
    read_as = "" if token == code else f" (read as {token}{' ' * bool(title_of[token])}{title_of[token]})"
    return element(
        "tr",
        element("td", element("code", code)),
        element("td", title_of[code], element("span", read_as, class_="quiet")),
        element("td", occurrence, class_="number quiet"),
        element("td", signed(contribution), class_="number"),
        element("td", bar(contribution, max(largest, 1e-9))),
    )


def _header(*titles: str) -> Element:
    return element("tr", *(element("th", title) for title in titles))


def _visit_name(explanation: Explanation, visit: int) -> str:
    date = explanation.admit_date[visit - 1]
    return f"visit {visit}" if np.isnat(date) else str(date)


def _date(explanation: Explanation, visit: int) -> str:
    date = explanation.admit_date[visit - 1]
    return "" if np.isnat(date) else f"{date}, "
