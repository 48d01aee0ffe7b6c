"""On which side of the data a patient is: a hash of the patient and a seed, and of nothing else.

So a patient never changes sides when others come or go, and every engine agrees.
"""

import ibis
import ibis.expr.types as ir

from ehr_bert.schemas import Split

_TRAIN_BELOW, _VALID_BELOW = (f"{round(share * 16**8):08x}" for share in (0.7, 0.8))
"""A hash reads as a fraction in base 16, and hexadecimal digits sort as text: train:valid:test is 7:1:2."""


def patient_hash(patient_id: ir.StringValue, purpose: str, seed: int) -> ir.StringValue:
    """32 hexadecimal digits, evenly spread over patients and unrelated between purposes and seeds."""
    return (ibis.literal(f"{purpose} {seed} ") + patient_id).hexdigest("md5")


def split_of(patient_id: ir.StringValue, seed: int) -> ir.StringValue:
    """The `Split` of each patient, in the shares 7:1:2."""
    digits = patient_hash(patient_id, "split", seed)
    return ibis.cases(
        (digits < _TRAIN_BELOW, Split.TRAIN.value),
        (digits < _VALID_BELOW, Split.VALID.value),
        else_=Split.TEST.value,
    )


def with_split(table: ir.Table, seed: int, given: ir.Table | None = None) -> ir.Table:
    """Adds the `split` of each row's patient: as the source gives it, else `split_of`.

    Args:
        table: A table with a column `patient_id`.
        seed: Decides the splits that aren't given.
        given: `SPLITS`, one row a patient, or none.
    """
    if given is None:
        return table.mutate(split=split_of(table.patient_id, seed))
    joined = table.left_join(given.select("patient_id", given_split="split"), "patient_id")
    split = ibis.coalesce(joined.given_split, split_of(joined.patient_id, seed))
    return joined.select(*table.columns, split=split)


def sample_of(patients: ir.Table, size: int, seed: int) -> ir.Table:
    """The `size` patients with the smallest hashes.

    Args:
        patients: A table with a column `patient_id`, any number of rows a patient.
        size: How many patients.
        seed: Another seed, another sample.

    Returns:
        A table of `patient_id` alone, a row a patient.
    """
    distinct = patients.select("patient_id").distinct()
    ordered = distinct.order_by(patient_hash(distinct.patient_id, "sample", seed), distinct.patient_id)
    return ordered.limit(size)
