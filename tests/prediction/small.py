"""A tiny export folder, written without TensorFlow, and histories for it."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import BertConfig, BertForPreTraining

from ehr_bert.cohorts.cohort import Cohort, Histories, cohort_of
from ehr_bert.export.history_tokenizer import TOKEN_IDS_FILE, HistoryTokenizer
from ehr_bert.schemas import COHORT, SpecialToken, Split

CODES = [f"ICD10_E{number}" for number in range(24)]
TOKENS = [*(token.value for token in SpecialToken), *CODES]
MAX_LENGTH, MAX_VISITS = 11, 6

CONFIG = BertConfig(
    vocab_size=len(TOKENS),
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=5,
    max_position_embeddings=MAX_LENGTH,
    type_vocab_size=MAX_VISITS,
    pad_token_id=0,
)


def export_folder(folder: Path, cls_token: str | None = "[CLS]", tokens: list[str] = TOKENS) -> Path:
    """Write an export folder of a model with weights so large that inputs have distinct outputs."""
    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = BertForPreTraining(CONFIG)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.2 * torch.randn_like(weight))
    model.save_pretrained(folder)
    vocabulary_file = folder / TOKEN_IDS_FILE
    vocabulary_file.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    HistoryTokenizer(
        str(vocabulary_file),
        type_vocab_size=MAX_VISITS,
        model_max_length=MAX_LENGTH,
        pad_token="[PAD]",
        unk_token="[UNK]" if "[UNK]" in tokens else None,
        mask_token="[MASK]",
        cls_token=cls_token,
    ).save_pretrained(folder)
    return folder


Patient = list[list[str]]
"""The codes of each visit."""


def cohort_table(patients: list[Patient], splits: list[str] | None = None, **tasks: pa.Array) -> pa.Table:
    """Return a cohort table of some patients, with numbers as ids."""
    rows = [
        {
            "patient_id": f"patient {number}",
            "split": splits[number] if splits else Split.TRAIN.value,
            "codes": [code for visit in visits for code in visit],
            "visit_ids": [place for place, visit in enumerate(visits, 1) for _ in visit],
            "admit_date": [None] * len(visits),
            "los_days": [0] * len(visits),
            "days_to_next": [0] * len(visits),
        }
        for number, visits in enumerate(patients)
    ]
    table = pa.Table.from_pylist(rows, schema=COHORT)
    for name, column in tasks.items():
        table = table.append_column(name, column)
    return table


def cohort_of_patients(patients: list[Patient], splits: list[str] | None = None, **tasks: pa.Array) -> Cohort:
    """Return a cohort of some patients."""
    return cohort_of(cohort_table(patients, splits, **tasks), {}, "here")


def histories_of(patients: list[Patient]) -> Histories:
    """Return the histories of some patients."""
    return cohort_of_patients(patients).histories


def random_patients(count: int, seed: int = 0) -> list[Patient]:
    """Return patients with 1 to 4 visits of 1 to 3 codes."""
    rng = np.random.default_rng(seed)
    return [
        [
            list(rng.choice(CODES, rng.integers(1, 4), replace=False).astype(object))
            for _ in range(rng.integers(1, 5))
        ]
        for _ in range(count)
    ]


def has_code(patients: list[Patient], code: str = CODES[0]) -> np.ndarray:
    """Return 1 for each patient with a code, as labels that can be learned."""
    return np.array([float(any(code in visit for visit in visits)) for visits in patients])
