"""Assignment of patients to splits by a hash of the patient id and a seed.

A patient therefore stays in the same split when other patients are added or removed, on every engine.
"""

import ibis
import ibis.expr.types as ir

from ehr_bert.schemas import Split

_TRAIN_BELOW, _VALID_BELOW = (f"{round(share * 16**8):08x}" for share in (0.7, 0.8))
"""Bounds of a hash, read as a fraction in base 16 and compared as text: train:valid:test is 7:1:2."""


def patient_hash(patient_id: ir.StringValue, purpose: str, seed: int) -> ir.StringValue:
    """Return 32 hexadecimal digits, uniformly distributed and independent between purposes and seeds."""
    return (ibis.literal(f"{purpose} {seed} ") + patient_id).hexdigest("md5")


def split_of(patient_id: ir.StringValue, seed: int) -> ir.StringValue:
    """Return the `Split` of each patient, in the ratio 7:1:2."""
    digits = patient_hash(patient_id, "split", seed)
    return ibis.cases(
        (digits < _TRAIN_BELOW, Split.TRAIN.value),
        (digits < _VALID_BELOW, Split.VALID.value),
        else_=Split.TEST.value,
    )


def with_split(table: ir.Table, seed: int, given: ir.Table | None = None) -> ir.Table:
    """Add a column `split`: the split that the source gives the patient, else `split_of`.

    Args:
        table: A table with a column `patient_id`.
        seed: Seed of the splits that the source does not give.
        given: `SPLITS`, one row per patient, or None.
    """
    if given is None:
        return table.mutate(split=split_of(table.patient_id, seed))
    joined = table.left_join(given.select("patient_id", given_split="split"), "patient_id")
    split = ibis.coalesce(joined.given_split, split_of(joined.patient_id, seed))
    return joined.select(*table.columns, split=split)


def sample_of(patients: ir.Table, size: int, seed: int) -> ir.Table:
    """Draw a random sample of patients: those with the smallest hashes.

    Args:
        patients: A table with a column `patient_id`, with any number of rows per patient.
        size: Number of patients.
        seed: Seed of the sample.

    Returns:
        A table with the column `patient_id`, one row per patient.
    """
    distinct = patients.select("patient_id").distinct()
    ordered = distinct.order_by(patient_hash(distinct.patient_id, "sample", seed), distinct.patient_id)
    return ordered.limit(size)
