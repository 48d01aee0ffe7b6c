"""Controls who are like the cases, so many for each."""

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import ControlMatching
from ehr_bert.splits import patient_hash


def matched(examples: ir.Table, matching: ControlMatching, label: str, seed: int) -> ir.Table:
    """All cases, and of the controls of a split who are like them so many that a hash stands first.

    Args:
        examples: `patient_id`, `index_date`, `split`, `sex`, `age`, and `label`; what isn't known is alike.
        matching: How.
        label: A column of 0 and 1.
        seed: Another seed, other controls.
    """
    alike = {
        "sex": examples.sex,
        "age_band": examples.age // 10,
        "index_year": examples.index_date.year(),
    }
    told = examples.select(
        "patient_id",
        "index_date",
        "split",
        told=examples[label],
        **{f"by_{name}": alike[name] for name in matching.by},
    )
    group = [told.split, *(told[f"by_{name}"] for name in matching.by)]
    key = told.patient_id + " " + told.index_date.cast("string")
    order = [patient_hash(key, "matching", seed), told.patient_id, told.index_date]
    placed = told.mutate(
        cases=told.told.sum().over(ibis.window(group_by=group)),
        place=ibis.row_number().over(ibis.window(group_by=[*group, told.told], order_by=order)),
    )
    kept = placed.filter((placed.told == 1) | (placed.place < placed.cases * matching.controls))
    return examples.semi_join(kept, ("patient_id", "index_date"))
