"""Matching of controls to cases."""

import ibis
import ibis.expr.types as ir

from ehr_bert.cohorts.definition import ControlMatching
from ehr_bert.splits import patient_hash


def match_controls(examples: ir.Table, matching: ControlMatching, label: str, seed: int) -> ir.Table:
    """Return all cases, and the controls that are matched to them.

    In each stratum of the split and the matching variables, the controls with the lowest hashes are kept, up
    to `matching.controls` per case.

    Args:
        examples: A table with `patient_id`, `index_date`, `split`, `sex`, `age` and `label`. Unknown values
            match each other.
        matching: Number of controls per case, and matching variables.
        label: Name of the column of labels 0 and 1.
        seed: Seed of the hashes.
    """
    variables = {
        "sex": examples.sex,
        "age_band": examples.age // 10,
        "index_year": examples.index_date.year(),
    }
    labelled = examples.select(
        "patient_id",
        "index_date",
        "split",
        label=examples[label],
        **{f"by_{name}": variables[name] for name in matching.by},
    )
    stratum = [labelled.split, *(labelled[f"by_{name}"] for name in matching.by)]
    key = labelled.patient_id + " " + labelled.index_date.cast("string")
    order = [patient_hash(key, "matching", seed), labelled.patient_id, labelled.index_date]
    ranked = labelled.mutate(
        cases=labelled.label.sum().over(ibis.window(group_by=stratum)),
        rank=ibis.row_number().over(ibis.window(group_by=[*stratum, labelled.label], order_by=order)),
    )
    kept = ranked.filter((ranked.label == 1) | (ranked["rank"] < ranked.cases * matching.controls))
    return examples.semi_join(kept, ("patient_id", "index_date"))
