import random
from datetime import date, timedelta

import ibis
import pyarrow as pa
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.sources.records import (
    ColumnNames,
    NestedVisits,
    StoreRecords,
    WithoutVisit,
    diagnosis_rows,
    patient_rows,
)
from tests.sources.stores import patients_by_id, rows_of

NAMES = ColumnNames("d.code", "p.id", "v.id", "v.start", "v.end")
VISITS = [
    ("v1", "a", "2020-01-01 10:00:00", "2020-01-03"),
    ("v2", "a", "2020-02-05", "2020-02-01"),
    ("v3", "a", "soon", "2020-02-01"),
    ("v4", "a", "2020-03-01", None),
    ("v5", "b", "2020-01-01", "2020-01-03"),
    ("v6", "a", "2020-04-01", "2020-04-02"),
    ("v6", "a", "2020-04-01", "2020-04-03"),
    ("v7", "a", "2020-05-01", "2020-05-02"),
    ("v7", "a", "2020-05-01", "2020-05-02"),
]


def table(engine: DuckDBEngine, columns: tuple[str, ...], rows: list[tuple]) -> ibis.Table:
    values = zip(*rows, strict=True) if rows else [[] for _ in columns]
    return engine.load(
        pa.table({name: pa.array(column, pa.string()) for name, column in zip(columns, values, strict=True)})
    )


def records_of(
    engine: DuckDBEngine, diagnoses: list[tuple], visits: list[tuple] = VISITS, patients: tuple = ("a", "b")
) -> StoreRecords:
    """Return a store of diagnoses, each given as (patient, visit, code, system)."""
    raw = table(engine, ("patient", "visit", "code", "system"), diagnoses)
    personal_columns = (
        "patient_id",
        "birth_date",
        "sex",
        "death_date",
        "observation_start",
        "observation_end",
    )
    return StoreRecords(
        names=NAMES,
        diagnoses=diagnosis_rows(
            raw,
            record=("code",),
            patient_id=raw.patient,
            visit_id=raw.visit,
            date=ibis.literal("2021-07-07"),
            code=raw.code,
            system=raw.system.nullif("?"),
            system_name=raw.system,
        ),
        visits=table(engine, ("visit_id", "patient_id", "admit_date", "discharge_date"), visits),
        patients=table(
            engine, personal_columns, [(patient, None, None, None, None, None) for patient in patients]
        ),
    )


def visit_of(row: str) -> str:
    return row.split("visit=")[1].split("\t")[0]


def test_a_row_is_kept_or_rejected_for_one_reason(engine: DuckDBEngine) -> None:
    reasons = {
        ("a", "v1", "25000", "ICD9CM"): None,
        ("a", "v7", "25000", "ICD9CM"): None,
        (None, "v1", "25000", "ICD9CM"): "no patient id",
        ("c", "v1", "25000", "ICD9CM"): "patient not found: p.id",
        ("a", "v1", None, "ICD9CM"): "no code: d.code",
        ("a", "v1", "25000", "?"): "unknown vocabulary: ?",
        ("a", "v1", "25000", None): "unknown vocabulary: none named",
        ("a", "v1", "E11.9", "SNOMED"): "not a code of SNOMED",
        ("a", None, "25000", "ICD9CM"): "no visit: v.id",
        ("a", "v0", "25000", "ICD9CM"): "visit not found: v.id",
        ("a", "v5", "25000", "ICD9CM"): "visit of another patient: v.id",
        ("a", "v6", "25000", "ICD9CM"): "conflicting rows of one visit: v.id",
        ("a", "v2", "25000", "ICD9CM"): "discharge before admission: v.end",
        ("a", "v3", "25000", "ICD9CM"): "admission is not a date: v.start",
        ("a", "v4", "25000", "ICD9CM"): "discharge is not a date: v.end",
    }
    rows = rows_of(engine, records_of(engine, list(reasons)), "row", "reason")
    assert {
        tuple(field.split("=")[1] or None for field in row.split("\t")[:4]): why for row, why in rows
    } == reasons


def test_a_row_gets_the_days_of_its_visit_and_its_canonical_code(engine: DuckDBEngine) -> None:
    records = records_of(engine, [("a", "v1", " 250.0 ", "ICD9CM"), ("a", "v1", "e119", "ICD10CM")])
    assert rows_of(engine, records, "code", "admit_date", "discharge_date", "is_one_day_visit") == [
        ("ICD9_250.0", "2020-01-01", "2020-01-03", False),
        ("ICD10_E11.9", "2020-01-01", "2020-01-03", False),
    ]


def test_a_diagnosis_without_a_visit_can_become_a_one_day_visit(engine: DuckDBEngine) -> None:
    records = records_of(engine, [("a", None, "25000", "ICD9CM"), ("a", "v0", "25000", "ICD9CM")])
    rows = rows_of(
        engine,
        records,
        "reason",
        "admit_date",
        "discharge_date",
        "is_one_day_visit",
        without_visit=WithoutVisit.KEEP,
    )
    assert sorted(rows, key=str) == [
        ("visit not found: v.id", "None", "None", False),
        (None, "2021-07-07", "2021-07-07", True),
    ]


def test_a_rejected_row_is_shown_with_its_visit(engine: DuckDBEngine) -> None:
    (row,) = rows_of(engine, records_of(engine, [("a", "v2", "25000", "ICD9CM")]), "row")
    assert row.split("\t") == [
        "patient=a",
        "visit=v2",
        "code=25000",
        "system=ICD9CM",
        "patient_id=a",
        "admit_date=2020-02-05",
        "discharge_date=2020-02-01",
    ]


def test_a_visit_within_another_can_take_its_days(engine: DuckDBEngine) -> None:
    visits = [
        ("long", "a", "2020-01-01", "2020-01-09"),
        ("inside", "a", "2020-01-09", "2020-01-09"),
        ("innermost", "a", "2020-01-02 08:00:00", "2020-01-02"),
        ("twin", "a", "2020-01-01", "2020-01-09"),
        ("overlapping", "a", "2020-01-05", "2020-01-12"),
        ("elsewhere", "b", "2020-01-02", "2020-01-03"),
    ]
    diagnoses = [(visit[1], visit[0], "25000", "ICD9CM") for visit in visits]
    records = records_of(engine, diagnoses, visits)
    rows = rows_of(
        engine, records, "row", "admit_date", "discharge_date", "is_nested", nested=NestedVisits.MERGE
    )
    assert {visit_of(row): tuple(days) for row, *days in rows} == {
        "long": ("2020-01-01", "2020-01-09", False),
        "inside": ("2020-01-05", "2020-01-12", True),
        "innermost": ("2020-01-01", "2020-01-09", True),
        "twin": ("2020-01-01", "2020-01-09", False),
        "overlapping": ("2020-01-05", "2020-01-12", False),
        "elsewhere": ("2020-01-02", "2020-01-03", False),
    }
    kept = rows_of(engine, records, "is_nested")
    assert kept == [False] * len(visits)


def test_nested_visits_take_the_days_of_the_visit_around_them(engine: DuckDBEngine) -> None:
    numbers = random.Random(5)
    spans = {}
    for number in range(400):
        first = date(2020, 1, 1) + timedelta(numbers.randrange(20))
        spans[f"v{number}"] = (f"p{number % 50}", first, first + timedelta(numbers.randrange(8)))

    def around(patient: str, first: date, last: date) -> list[tuple[date, date]]:
        return [
            (begins, ends)
            for other, begins, ends in spans.values()
            if other == patient and begins <= first and last <= ends
        ]

    def outermost(patient: str, first: date, last: date) -> tuple[date, date]:
        return max(
            (begins, ends)
            for begins, ends in around(patient, first, last)
            if set(around(patient, begins, ends)) == {(begins, ends)}
        )

    visits = [(visit, patient, str(first), str(last)) for visit, (patient, first, last) in spans.items()]
    diagnoses = [(patient, visit, "25000", "ICD9CM") for visit, patient, _, _ in visits]
    records = records_of(engine, diagnoses, visits, tuple(f"p{number}" for number in range(50)))
    rows = rows_of(engine, records, "row", "admit_date", "discharge_date", nested=NestedVisits.MERGE)
    assert {visit_of(row): (first, last) for row, first, last in rows} == {
        visit: tuple(map(str, outermost(*span))) for visit, span in spans.items()
    }


def test_a_value_in_which_the_rows_of_a_patient_differ_is_null(engine: DuckDBEngine) -> None:
    personal_columns = (
        "patient_id",
        "birth_date",
        "sex",
        "death_date",
        "observation_start",
        "observation_end",
    )
    rows = [
        ("a", "1950-01-01", "male", None, None, None),
        ("a", "1950-01-01", "M", "2020-01-01", None, None),
        ("b", "1950-01-01", "Female", None, None, None),
        ("b", "1951-01-01", "m", "not a day", None, None),
        (None, "1951-01-01", "m", None, None, None),
    ]
    records = StoreRecords(
        NAMES, records_of(engine, []).diagnoses, patients=table(engine, personal_columns, rows)
    )
    nothing = {"observation_start": None, "observation_end": None, "observation_end_reason": None}
    assert patients_by_id(engine, records) == {
        "a": {
            "birth_date": date(1950, 1, 1),
            "sex": "M",
            "death_date": date(2020, 1, 1),
            **nothing,
            "conflicts": 0,
        },
        "b": {"birth_date": None, "sex": None, "death_date": None, **nothing, "conflicts": 2},
    }


def test_a_reason_without_an_end_of_observation_is_null(engine: DuckDBEngine) -> None:
    rows = [
        ("a", "2020-01-01", "enrolment"),
        ("b", None, "enrolment"),
        ("c", "2020-01-01", "enrolment"),
        ("c", "2020-02-01", "enrolment"),
        ("d", "2020-01-01", None),
    ]
    columns = ("patient_id", "observation_end", "observation_end_reason")
    raw = table(engine, (*columns, "sex"), [(*row, None) for row in rows])
    patients = patients_by_id(engine, StoreRecords(NAMES, records_of(engine, []).diagnoses, patients=raw))
    ends = {name: [row[key] for key in (*columns[1:], "conflicts")] for name, row in patients.items()}
    assert ends == {
        "a": [date(2020, 1, 1), "enrolment", 0],
        "b": [None, None, 0],
        "c": [None, None, 1],
        "d": [date(2020, 1, 1), None, 0],
    }


@pytest.mark.parametrize(
    ("extraction", "start", "end", "reason", "expected"),
    [
        (None, "2019-01-01", "2020-01-01", "enrolment", (2019, 2020, "enrolment", 0)),
        (None, "2019-01-01", None, None, (2019, None, None, 0)),
        (date(2018, 1, 1), None, "2020-01-01", "enrolment", (None, 2018, "extraction", 0)),
        (date(2020, 1, 1), None, "2020-01-01", "enrolment", (None, 2020, "enrolment", 0)),
        (date(2021, 1, 1), None, "2020-01-01", None, (None, 2020, None, 0)),
        (date(2021, 1, 1), "2019-01-01", None, None, (2019, 2021, "extraction", 0)),
        (date(2018, 1, 1), "2019-01-01", "2020-01-01", "enrolment", (None, None, None, 2)),
        (None, "2021-01-01", "2020-01-01", "enrolment", (None, None, None, 2)),
        (None, "2020-01-01", "2020-01-01", "enrolment", (2020, 2020, "enrolment", 0)),
    ],
)
def test_observation_ends_on_the_earlier_day_and_does_not_start_after_it(
    engine: DuckDBEngine,
    extraction: date | None,
    start: str | None,
    end: str | None,
    reason: str | None,
    expected: tuple,
) -> None:
    names = ("observation_start", "observation_end", "observation_end_reason")
    raw = table(engine, ("patient_id", "sex", *names), [("a", "F", start, end, reason)])
    records = StoreRecords(NAMES, records_of(engine, []).diagnoses, patients=raw)
    (patient,) = engine.collect(patient_rows(records, extraction)).to_pylist()
    years = [patient[name] and patient[name].year for name in names[:2]]
    assert (*years, patient[names[2]], patient["conflicts"]) == expected


def test_death_before_birth_is_a_conflict(engine: DuckDBEngine) -> None:
    days = [("a", "1950-01-01", "1949-12-31"), ("b", "1950-01-01", "1950-01-01")]
    raw = table(engine, ("patient_id", "birth_date", "death_date", "sex"), [(*row, "F") for row in days])
    patients = patients_by_id(engine, StoreRecords(NAMES, records_of(engine, []).diagnoses, patients=raw))
    known = {key: (row["birth_date"], row["death_date"], row["conflicts"]) for key, row in patients.items()}
    assert known == {"a": (None, None, 2), "b": (date(1950, 1, 1), date(1950, 1, 1), 0)}


def test_without_a_table_of_patients_the_patients_are_those_of_the_diagnoses(engine: DuckDBEngine) -> None:
    records = records_of(engine, [("a", "v1", "25000", "ICD9CM"), ("z", "v1", "25000", "ICD9CM")])
    assert sorted(patients_by_id(engine, StoreRecords(NAMES, records.diagnoses))) == ["a", "z"]
