# Covers: ehr_bert.schemas
"""Context tokens against plain Python, on a table where everything befalls records."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ehr_bert.engines import DuckDBEngine
from ehr_bert.schemas import PATIENTS, ContextKind, Split, is_context
from ehr_bert.sequences.building import PatientHistories, SequenceOptions, build_histories
from ehr_bert.sequences.eligibility import Eligibility
from ehr_bert.sequences.summary import summarise_preprocessing
from ehr_bert.sources import read_tutorial_table
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.sequences.decoding import decoded_sequences
from tests.sequences.messy import messy_rows, write_tutorial_table
from tests.sequences.reference import reference
from tests.user_errors import raises_user_error

ROWS = messy_rows(200, seed=41)
"""Stays of 0 to 59 days that end 40 days apart: overlaps, and gaps of some months."""


def some_patients() -> dict[str, dict]:
    """All patients but every seventh; some without a birth date, some born after visits."""
    generator = np.random.default_rng(42)
    people = {}
    for number, patient in enumerate(sorted(set(ROWS["patient_id"]))):
        born = date(1920, 1, 1) + timedelta(days=int(generator.integers(0, 95 * 365)))
        people[patient] = {
            "birth_date": [born, born, born, None][number % 4],
            "sex": ["F", "M", "U", None, "F"][number % 5],
        }
    return {patient: row for number, (patient, row) in enumerate(people.items()) if number % 7}


def built(
    engine: DuckDBEngine, folder: Path, kinds: set[ContextKind], eligibility: Eligibility | None = None
) -> PatientHistories:
    table = write_tutorial_table(folder / "table.tsv", ROWS)
    people = [{"patient_id": patient, **row} for patient, row in some_patients().items()]
    events = replace(
        read_tutorial_table(engine, table),
        patients=engine.load(pa.Table.from_pylist(people, schema=PATIENTS)),
    )
    options = SequenceOptions(eligibility=eligibility or Eligibility(), context=frozenset(kinds))
    return build_histories(engine, events, 0, options=options)


def band(value: int, *bounds: tuple[int, int | None]) -> str:
    ((low, high),) = [(low, high) for low, high in bounds if low <= value and (high is None or value <= high)]
    return f"{low}+" if high is None else f"{low}-{high}"


AGES = [(low, low + 9) for low in range(0, 90, 10)] + [(90, None)]
GAPS = [(0, 7), (8, 30), (31, 90), (91, 180), (181, 365), (366, 730), (731, None)]


def tokens_of_visit(person: dict, history: dict, index: int, kinds: set[ContextKind]) -> list[str]:
    """The context tokens of a visit."""
    tokens = []
    if ContextKind.SEX in kinds and index == 0 and person.get("sex"):
        tokens.append("SEX_" + {"F": "F", "M": "M"}.get(person["sex"], "OTHER"))
    born, admitted = person.get("birth_date"), history["admit_date"][index]
    if ContextKind.AGE in kinds and born and born <= admitted:
        had_birthday = (admitted.month, admitted.day) >= (born.month, born.day)
        tokens.append("AGE_" + band(admitted.year - born.year - (not had_birthday), *AGES))
    if ContextKind.GAP in kinds and index > 0:
        tokens.append("GAP_" + band(max(history["days_to_next"][index - 1], 0), *GAPS))
    return tokens


@pytest.mark.parametrize(
    "kinds", [set(ContextKind), {ContextKind.GAP}, {ContextKind.SEX}, {ContextKind.AGE, ContextKind.GAP}]
)
def test_each_visit_starts_with_its_tokens(
    engine: DuckDBEngine, tmp_path: Path, kinds: set[ContextKind]
) -> None:
    histories = built(engine, tmp_path, kinds)
    vocabulary = histories.vocabulary(None, *Split)
    people = some_patients()
    expected = reference(ROWS)
    for patient, history in expected.items():
        codes, visit_ids = [], []
        for index in range(len(history["admit_date"])):
            of_visit = zip(history["codes"], history["visit_ids"], strict=True)
            tokens = tokens_of_visit(people.get(patient, {}), history, index, kinds)
            tokens += [code for code, visit in of_visit if visit == index + 1]
            codes += tokens
            visit_ids += [index + 1] * len(tokens)
        history.update(codes=codes, visit_ids=visit_ids)
    splits = decoded_sequences(engine, histories, vocabulary)
    assert {patient: row for split in splits.values() for patient, row in split.items()} == expected
    kinds_in_vocabulary = {
        kind for kind in ContextKind if any(token.startswith(kind.prefix) for token in vocabulary.tokens)
    }
    assert kinds_in_vocabulary == kinds


def test_context_tokens_are_not_codes(engine: DuckDBEngine, tmp_path: Path) -> None:
    plain, with_context = (built(engine, tmp_path, kinds) for kinds in (set(), set(ContextKind)))
    vocabularies = [histories.vocabulary(None, Split.TRAIN) for histories in (plain, with_context)]
    codes = [{vocabulary.tokens[index] for index in vocabulary.code_ids} for vocabulary in vocabularies]
    assert codes[0] == codes[1] == set(ROWS["code"])
    summaries = [
        summarise_preprocessing(histories, vocabulary, 0)
        for histories, vocabulary in zip((plain, with_context), vocabularies, strict=True)
    ]
    sizes = [summary.pop("vocabulary_size") for summary in summaries]
    assert sizes[1] - sizes[0] == sum(map(is_context, vocabularies[1].tokens)) > 15
    assert summaries[0] == summaries[1]


def test_tokens_are_numbered_by_patients_among_the_codes(engine: DuckDBEngine, tmp_path: Path) -> None:
    vocabulary = built(engine, tmp_path, set(ContextKind)).vocabulary(None, Split.TRAIN)
    patients = vocabulary.patients[5:]
    assert list(patients) == sorted(patients, reverse=True)
    places = [index for index, token in enumerate(vocabulary.tokens) if is_context(token)]
    assert min(places) < max(vocabulary.code_ids.tolist())
    assert min(vocabulary.code_ids.tolist()) < max(places)


def test_a_rule_for_rare_codes_keeps_rare_context_tokens(engine: DuckDBEngine, tmp_path: Path) -> None:
    histories = built(engine, tmp_path, set(ContextKind), Eligibility(min_patients=10_000))
    vocabulary = histories.vocabulary(None, Split.TRAIN)
    assert vocabulary.code_ids.tolist() == []
    assert {"SEX_F", "AGE_90+", "GAP_31-90"} < set(vocabulary.tokens)


@pytest.mark.parametrize("kind", [ContextKind.SEX, ContextKind.AGE])
def test_tokens_of_patients_need_their_table(engine: DuckDBEngine, tmp_path: Path, kind: ContextKind) -> None:
    table = write_tutorial_table(tmp_path / "table.tsv", ROWS)
    options = SequenceOptions(context=frozenset({kind}))
    with raises_user_error("missing-patients-table", table):
        build_histories(engine, read_tutorial_table(engine, table), 0, options=options)


def test_tokens_of_gaps_need_no_table_of_patients(engine: DuckDBEngine, tmp_path: Path) -> None:
    table = write_tutorial_table(tmp_path / "table.tsv", ROWS)
    options = SequenceOptions(context=frozenset({ContextKind.GAP}))
    histories = build_histories(engine, read_tutorial_table(engine, table), 0, options=options)
    assert "GAP_31-90" in histories.codes


def test_the_codes_of_a_vocabulary_exclude_context_tokens() -> None:
    vocabulary = Vocabulary.from_counts(
        CodeCount(token, 1, 1) for token in ("SEX_F", "AGE_60-69", "GAP_731+", "ICD9_250.00", "AGED")
    )
    assert [vocabulary.tokens[index] for index in vocabulary.code_ids] == ["AGED", "ICD9_250.00"]
