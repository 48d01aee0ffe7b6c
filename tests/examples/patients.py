"""Patients for the tests of `ehr_bert.examples`."""

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
