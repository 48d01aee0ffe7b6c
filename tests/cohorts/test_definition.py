import pytest

from ehr_bert.cohorts.definition import Definition, shipped_definitions
from ehr_bert.schemas import COHORT
from tests.user_errors import raises_user_error

OUTCOME = {"codes": ["B"]}
NEXT_STAY = {"kind": "stay_days"}
NTH_VISIT = {"kind": "nth_visit"}


@pytest.mark.parametrize("name", shipped_definitions())
def test_a_shipped_definition_is_read_back_as_written(tmp_path, name):
    definition = Definition.read(name)
    assert definition.title
    definition.write(tmp_path / "definition.toml")
    assert Definition.read(str(tmp_path / "definition.toml")) == definition


def test_shipped_definitions():
    assert shipped_definitions() == [
        "heart_failure_at_a_later_visit",
        "heart_failure_in_diabetes",
        "next_visit_codes",
        "pancreatic_cancer",
        "prolonged_next_stay",
        "readmission_30_days",
    ]


def test_an_unknown_name_is_refused_with_the_known_names():
    with raises_user_error("unknown-definition", "heart_attack", *shipped_definitions()):
        Definition.read("heart_attack")


def test_a_date_may_be_written_without_quotes(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[index]\nkind = "date"\ndate = 2015-01-01\n[[outcomes]]\ncodes = ["B"]\n')
    assert Definition.read(str(path)).index.date == "2015-01-01"


def test_a_misspelt_key_is_reported_with_its_file(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('[population]\ncode = ["A"]\n')
    with raises_user_error("unknown-setting", path, "population.code", "population.codes"):
        Definition.read(str(path))


@pytest.mark.parametrize(
    ("key", "mentioned", "values"),
    [
        ("missing-setting", "outcomes", {}),
        ("missing-setting", "index.codes", {"outcomes": [OUTCOME]}),
        ("missing-setting", "outcomes.1.codes", {"outcomes": [{"codes": []}]}),
        ("missing-setting", "outcomes.1.follow_up_days", {"outcomes": [{"kind": "readmission"}]}),
        ("missing-setting", "index.date", {"outcomes": [OUTCOME], "index": {"kind": "date"}}),
        ("missing-setting", "exclude.1.codes", {"outcomes": [OUTCOME], "exclude": [{"when": "ever"}]}),
        (
            "missing-setting",
            "population.codes",
            {
                "outcomes": [OUTCOME],
                "index": NTH_VISIT,
                "exclude": [{"codes": ["A"], "when": "until_population"}],
            },
        ),
        ("duplicate-name", "label, label", {"outcomes": [OUTCOME, OUTCOME]}),
        ("duplicate-name", "label, label", {"outcomes": [OUTCOME, OUTCOME | {"name": "LABEL"}]}),
        ("invalid-setting", "outcomes.1.name", {"outcomes": [OUTCOME | {"name": COHORT.names[0]}]}),
        ("invalid-setting", "outcomes.1.name", {"outcomes": [OUTCOME | {"name": "Age"}]}),
        ("invalid-setting", "outcomes.1.name", {"outcomes": [OUTCOME | {"name": "two words"}]}),
        ("invalid-setting", "outcomes.1.codes.2", {"outcomes": [{"codes": ["B", "X_9-X_1"]}]}),
        ("invalid-setting", "outcomes.1.follow_up_days", {"outcomes": [OUTCOME | {"follow_up_days": 2**63}]}),
        (
            "invalid-setting",
            "index.date",
            {"outcomes": [OUTCOME], "index": {"kind": "date", "date": "1 May"}},
        ),
        ("invalid-setting", "matching.by.1", {"outcomes": [OUTCOME], "matching": {"by": ["height"]}}),
        (
            "conflicting-settings",
            "outcomes.1.follow_up_days",
            {"outcomes": [OUTCOME | {"gap_days": 9, "follow_up_days": 9}]},
        ),
        ("conflicting-settings", "stay_days", {"outcomes": [NEXT_STAY], "index": {"kind": "before_outcome"}}),
        ("conflicting-settings", "matching", {"outcomes": [NEXT_STAY], "index": NTH_VISIT, "matching": {}}),
    ],
)
def test_settings_that_do_not_fit_are_refused(key, mentioned, values):
    with raises_user_error(key, mentioned):
        Definition.from_dict(values)


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("population.visits", {"index": NTH_VISIT, "population": {"visits": 2}}),
        ("population.within_days", {"index": NTH_VISIT, "population": {"within_days": 90}}),
        ("population.within_days", {"population": {"codes": ["A"], "within_days": 90}}),
        ("index.codes", {"index": {"kind": "nth_visit", "codes": ["A"]}}),
        ("index.visit", {"index": {"kind": "each_discharge", "visit": 2}}),
        ("index.date", {"index": {"kind": "nth_visit", "date": "2015-01-01"}}),
        ("index.min_stay_days", {"index": {"kind": "before_outcome", "min_stay_days": 1}}),
        ("index.max_per_patient", {"index": {"kind": "nth_visit", "max_per_patient": 2}}),
        ("exclude.1.margin_days", {"index": NTH_VISIT, "exclude": [{"codes": ["A"], "margin_days": 1}]}),
        (
            "exclude.1.washout_days",
            {"index": NTH_VISIT, "exclude": [{"codes": ["A"], "when": "ever", "washout_days": 1}]},
        ),
        ("outcomes.1.each_visit", {"index": NTH_VISIT, "outcomes": [OUTCOME | {"each_visit": True}]}),
        ("outcomes.1.codes", {"index": NTH_VISIT, "outcomes": [NEXT_STAY | {"codes": ["B"]}]}),
        (
            "outcomes.1.washout_days",
            {"index": {"kind": "before_outcome"}, "outcomes": [OUTCOME | {"washout_days": 90}]},
        ),
        ("observed_until", {"index": NTH_VISIT, "observed_until": "2020-01-01"}),
        (
            "observed_until",
            {
                "index": NTH_VISIT,
                "observed_until": "2020-01-01",
                "outcomes": [NEXT_STAY | {"follow_up_days": 9}],
            },
        ),
    ],
)
def test_a_setting_without_effect_is_refused(setting, values):
    with raises_user_error("setting-without-effect", setting):
        Definition.from_dict({"outcomes": [OUTCOME]} | values)
