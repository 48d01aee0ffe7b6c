from ehr_bert.cohorts.findings import Finding
from ehr_bert.cohorts.summary import cohort_text

SPLIT = {"examples": 1200, "patients": 900, "labels": {"label": 1200, "days": 7}, "positives": {"label": 30}}
SUMMARY = {
    "rows": {"rejected": {"no code": 5}},
    "flow": [{"rule": "alive", "patients": 900, "rows": 1200}],
    "splits": {"train": SPLIT, "test": SPLIT},
    "tasks": {"label": "binary", "days": "regression"},
    "audit": [Finding("no-future-events", "no later event", 0, "0 violations").to_dict()],
}


def test_the_text_has_flow_counts_and_audit():
    lines = [line.split() for line in cohort_text(SUMMARY).splitlines()]
    assert ["rejected:", "5", "rows,", "no", "code"] in lines
    assert ["alive", "900", "1,200"] in lines
    assert ["label", "(binary)", "1,200", "1,200"] in lines
    assert lines.index(["cases", "30", "30"]) == lines.index(["label", "(binary)", "1,200", "1,200"]) + 1
    assert lines[-1][:2] == ["PASS", "no-future-events:"]
