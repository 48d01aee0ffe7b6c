"""Patients for the tests of `ehr_bert.examples`."""

from datetime import date, timedelta

import numpy as np
import pyarrow as pa

from ehr_bert.pickles import TUTORIAL_SEQUENCES
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import Vocabulary

SPECIAL = [token.value for token in SpecialToken]
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_CODE = 5


def vocabulary(codes=301):
    tokens = (*SPECIAL, *(f"ICD10_{code}" for code in range(codes)))
    return Vocabulary(tokens, (0,) * len(tokens), (0,) * len(tokens))


def batch_of(patients):
    """A batch of patients given as lists of visits, each `(stay in days, [token ids])`."""
    return pa.record_batch(
        [
            [f"p{number}" for number in range(len(patients))],
            [[token for _, tokens in visits for token in tokens] for visits in patients],
            [[visit for visit, (_, tokens) in enumerate(visits, 1) for _ in tokens] for visits in patients],
            [[stay for stay, _ in visits] for visits in patients],
            [[0] * len(visits) for visits in patients],
        ],
        schema=TUTORIAL_SEQUENCES,
    )


FIRST_DAY = date(2010, 1, 1)


def dated_batch_of(patients, facts):
    """A batch of patients as `batch_of` takes them, one visit every 40 days, with ends and deaths.

    Args:
        patients: The patients.
        facts: Days from `FIRST_DAY`, the first admission, to the end of observation and to the death of each
            patient; None if unknown.
    """
    batch = pa.Table.from_batches([batch_of(patients)])
    days = [[FIRST_DAY + timedelta(40 * visit) for visit in range(len(visits))] for visits in patients]
    batch = batch.append_column("admit_date", pa.array(days, pa.list_(pa.date32())))
    for name, column in zip(("observation_end", "death_date"), zip(*facts, strict=True), strict=True):
        dates = [None if day is None else FIRST_DAY + timedelta(day) for day in column]
        batch = batch.append_column(name, pa.array(dates, pa.date32()))
    return batch.combine_chunks().to_batches()[0]


def days_after_visit(visits, visit, fact):
    """Return the days that an example stores for a fact of `dated_batch_of`, after a visit from 0."""
    stay, _ = visits[visit]
    return -1 if fact is None else max(fact - 40 * visit - stay, 0)


def some_facts(count, seed=0):
    """Return facts as `dated_batch_of` takes them: known and unknown, before and after the last visit."""
    rng = np.random.default_rng(seed)
    days = rng.integers(-30, 500, (count, 2))
    known = rng.random((count, 2)) < 0.6
    return [
        tuple(int(day) if is_known else None for day, is_known in zip(*row, strict=True))
        for row in zip(days, known, strict=True)
    ]


def random_patients(count, seed=0, codes=301, most_visits=6, most_codes=9):
    rng = np.random.default_rng(seed)
    return [
        [
            (
                int(rng.integers(0, 12)),
                rng.integers(FIRST_CODE, FIRST_CODE + codes, rng.integers(1, most_codes + 1)).tolist(),
            )
            for _ in range(rng.integers(1, most_visits + 1))
        ]
        for _ in range(count)
    ]
