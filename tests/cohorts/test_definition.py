import pytest

from ehr_bert.cohorts.definition import Definition, ready
from ehr_bert.errors import UserError
from ehr_bert.schemas import COHORT

OUTCOME = {"codes": ["B"]}


@pytest.mark.parametrize("name", ready())
def test_a_ready_definition_reads_back_from_what_is_written(tmp_path, name):
    definition = Definition.read(name)
    assert definition.title
    definition.write(tmp_path / "definition.toml")
    assert Definition.read(str(tmp_path / "definition.toml")) == definition


def test_the_ready_definitions():
    assert ready() == [
        "heart_failure_at_a_later_visit",
        "heart_failure_in_diabetes",
        "next_visit_codes",
        "pancreatic_cancer",
        "prolonged_next_stay",
        "readmission_30_days",
    ]


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(UserError, match=r"neither a \.toml file nor a ready definition: there are heart_"):
        Definition.read("heart_attack")


def test_a_day_may_stand_without_quotes(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[index]\nkind = "date"\ndate = 2015-01-01\n[[outcomes]]\ncodes = ["B"]\n')
    assert Definition.read(str(path)).index.date == "2015-01-01"


def test_a_misspelt_key_is_named_with_its_file(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[population]\ncode = ["A"]\n')
    with pytest.raises(UserError, match=r"own\.toml: unknown key 'population\.code': did you mean"):
        Definition.read(str(path))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "outcomes is empty"),
        ({"outcomes": [OUTCOME]}, "first code of which"),
        ({"outcomes": [OUTCOME, OUTCOME]}, "two outcomes are called label, label"),
        ({"outcomes": [OUTCOME, OUTCOME | {"name": "LABEL"}]}, "two outcomes are called label, label"),
        ({"outcomes": [{"codes": []}]}, r"outcomes\.1\.codes is empty"),
        ({"outcomes": [OUTCOME | {"name": COHORT.names[0]}]}, "is no other column"),
        ({"outcomes": [OUTCOME | {"name": "Age"}]}, "is no other column"),
        (
            {"outcomes": [{"codes": ["B", "X_9-X_1"]}]},
            r"outcomes\.1\.codes\.2 must be .* a range from the lower",
        ),
        ({"outcomes": [OUTCOME | {"follow_up_days": 2**63}]}, r"outcomes\.1\.follow_up_days must be a whole"),
        ({"outcomes": [OUTCOME | {"name": "two words"}]}, "is no other column"),
        ({"outcomes": [OUTCOME | {"each_visit": True}]}, 'each_visit is not for kind = "codes"'),
        ({"outcomes": [{"kind": "readmission"}]}, "follow_up_days is not stated"),
        ({"outcomes": [{"kind": "readmission", "codes": ["B"]}]}, 'codes is not for kind = "readmission"'),
        ({"outcomes": [OUTCOME | {"gap_days": 9, "follow_up_days": 9}]}, "ends inside gap_days 9"),
        ({"outcomes": [OUTCOME], "index": {"kind": "date"}}, "need each other"),
        (
            {"outcomes": [OUTCOME], "index": {"kind": "nth_visit", "max_per_patient": 2}},
            r"index\.max_per_patient is for kind",
        ),
        ({"outcomes": [OUTCOME], "index": {"kind": "date", "date": "1 May"}}, "such as 2015-01-01"),
        (
            {"outcomes": [{"kind": "stay_days"}], "index": {"kind": "before_outcome"}},
            "needs a first outcome of kind",
        ),
        (
            {
                "outcomes": [OUTCOME],
                "index": {"kind": "nth_visit"},
                "exclude": [{"codes": ["A"], "when": "until_population"}],
            },
            r"needs population\.codes",
        ),
        ({"outcomes": [OUTCOME], "exclude": [{"when": "ever"}]}, r"exclude\.1\.codes is empty"),
        (
            {"outcomes": [OUTCOME], "exclude": [{"codes": ["A"], "margin_days": 1}]},
            'margin_days is for when = "until_population"',
        ),
        (
            {"outcomes": [OUTCOME], "exclude": [{"codes": ["A"], "when": "ever", "washout_days": 1}]},
            "washout_days counts back from a day",
        ),
        (
            {"outcomes": [{"kind": "stay_days"}], "index": {"kind": "nth_visit"}, "matching": {}},
            "matching needs one outcome",
        ),
        ({"outcomes": [OUTCOME], "matching": {"by": ["height"]}}, r"matching\.by names height"),
    ],
)
def test_what_does_not_go_together_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        Definition.from_dict(values)
