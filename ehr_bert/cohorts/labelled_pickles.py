"""Labelled pickles of the Med-BERT tutorial, one `[patient, label, codes, visits]` per patient, as a cohort.

Dimensions: N patients of one pickle, C codes and K visits of all of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ehr_bert.cohorts.label_files import task_column
from ehr_bert.errors import UserError
from ehr_bert.pickles import read_pickles
from ehr_bert.ragged import offsets_of, starts_of
from ehr_bert.schemas import COHORT, LABEL, Split
from ehr_bert.vocabulary import Vocabulary


def read_labelled_pickles(prefix: Path, types: Path) -> pa.Table:
    """Read the patients of `<prefix>.{train,valid,test}`, or of `<prefix>.bencs.{train,valid,test}`.

    Args:
        prefix: Prefix of the files.
        types: The tutorial's `.types` file, which maps ids to codes, or a vocabulary.

    Returns:
        `COHORT` and `LABEL`, by patient id. The files have no dates, ages and sexes, which are null, and no
        lengths of stay, which are 0.

    Raises:
        UserError: A file is missing, a record does not fit (keys `invalid-record`, `unknown-code-ids`), there
            is no patient (`empty-cohort`), or a patient is in two splits (`patients-in-two-splits`).
    """
    vocabulary = Vocabulary.read(types)
    names = np.array(vocabulary.tokens, dtype=object)
    is_code = np.isin(np.arange(len(names)), vocabulary.code_ids)
    tables = [
        _table(_path(prefix, split), number, records, split, names, is_code)
        for split in Split
        for number, records in enumerate(read_pickles(_path(prefix, split)), 1)
    ]
    table = pa.concat_tables(tables) if tables else None
    if not table:
        raise UserError("empty-cohort", f"the pickles {prefix}.* have no patient. Choose labelled pickles.")
    splits = table.group_by("patient_id").aggregate([("split", "count_distinct")])
    count = pc.sum(pc.greater(splits["split_count_distinct"], 1)).as_py()
    if count:
        raise UserError(
            "patients-in-two-splits",
            f"{count:,} patients of the pickles {prefix}.* are in two splits. Keep each patient in one.",
        )
    labels = task_column(table[LABEL], LABEL, prefix)
    return table.set_column(table.column_names.index(LABEL), LABEL, labels).sort_by("patient_id")


def _path(prefix: Path, split: Split) -> Path:
    plain, tutorial = Path(f"{prefix}.{split}"), Path(f"{prefix}.bencs.{split}")
    return tutorial if tutorial.exists() and not plain.exists() else plain


def _table(
    path: Path, number: int, records: Any, split: Split, names: np.ndarray, is_code: np.ndarray
) -> pa.Table:
    """Return the patients of one pickle as a table."""
    try:
        patients, labels, codes, visits = zip(*records, strict=True) if records else ([],) * 4
        ids, numbers = (pa.array(lists, pa.list_(pa.int32())) for lists in (codes, visits))
        label = pa.array(labels, pa.float64())
        patient_id = pa.array([str(patient) for patient in patients], pa.string())
    except (ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise UserError(
            "invalid-record",
            f"{path}, pickle {number}: each record must be [patient, label, codes, visits], with a number as "
            f"label and two lists of integers ({error}).",
        ) from error
    lengths = pc.list_value_length(ids)
    if not lengths.equals(pc.list_value_length(numbers)):
        raise UserError(
            "invalid-record",
            f"{path}, pickle {number}: the lists of codes and visits of a patient differ in "
            "length. Write the file again.",
        )
    flat, visit = ids.flatten().to_numpy(), numbers.flatten().to_numpy()  # [C], [C]
    known = (flat >= 0) & (flat < len(names))
    if not (known.all() and is_code[flat].all()):
        raise UserError(
            "unknown-code-ids",
            f"{path}, pickle {number}: some ids are not ids of codes in --types. Choose the .types of these "
            "files.",
        )
    row = np.repeat(np.arange(len(ids)), lengths.to_numpy())  # [C]
    is_new = (np.diff(visit, prepend=-1) != 0) | (np.diff(row, prepend=-1) != 0)  # [C]
    visit_counts = np.bincount(row[is_new], minlength=len(ids))  # [N]
    before = starts_of(visit_counts)  # [N]
    code_offsets, visit_offsets = (
        pa.array(offsets_of(counts), pa.int32()) for counts in (lengths.to_numpy(), visit_counts)
    )
    no_days = pa.array(np.zeros(visit_counts.sum(), np.int32))
    columns = {
        "patient_id": patient_id,
        "split": pa.array([split.value] * len(ids), pa.string()),
        "codes": pa.ListArray.from_arrays(code_offsets, pa.array(names[flat], pa.string())),
        "visit_ids": pa.ListArray.from_arrays(
            code_offsets, pa.array((np.cumsum(is_new) - before[row]).astype(np.int32))
        ),
        "admit_date": pa.ListArray.from_arrays(visit_offsets, pa.nulls(len(no_days), pa.date32())),
        "los_days": pa.ListArray.from_arrays(visit_offsets, no_days),
        "days_to_next": pa.ListArray.from_arrays(visit_offsets, no_days),
    }
    unknown = {field.name: pa.nulls(len(ids), field.type) for field in COHORT if field.name not in columns}
    columns |= unknown
    arrays = [*(columns[name] for name in COHORT.names), label]
    return pa.table(arrays, schema=pa.schema([*COHORT, pa.field(LABEL, label.type)]))
