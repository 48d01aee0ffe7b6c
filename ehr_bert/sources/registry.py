"""Registry of the stores that `ehr-bert extract` can read."""

from dataclasses import replace
from typing import Any

from ehr_bert.registry import Guard, Registry, other_name, wrong_instance
from ehr_bert.sources.store import Store, StoreOption


def _adopted(name: str, loaded: Any, guard: Guard) -> Store | str:
    if problem := wrong_instance(loaded, Store) or other_name(name, loaded.name):
        return problem
    if not callable(loaded.read):
        return "its `read` is not a function"
    for option in loaded.options:
        if problem := wrong_instance(option, StoreOption):
            return f"an option {problem}"
        if not option.name.isidentifier():
            return f"the option {option.name!r} is not the name of an argument of its reader"
    return replace(
        loaded,
        read=guard(loaded.read, _wrong_records),
        options=tuple(replace(option, convert=guard(option.convert)) for option in loaded.options),
    )


def _wrong_records(records: Any, *_: Any) -> str | None:
    from ehr_bert.sources.records import StoreRecords, wrong_columns

    return wrong_instance(records, StoreRecords) or wrong_columns(records)


STORES: Registry[Store] = Registry(
    "store",
    "ehr_bert.stores",
    {
        "omop": "ehr_bert.sources.omop:OMOP",
        "mimic-iv": "ehr_bert.sources.mimic:MIMIC_IV",
        "mimic-iii": "ehr_bert.sources.mimic:MIMIC_III",
        "meds": "ehr_bert.sources.meds:MEDS",
        "synthea": "ehr_bert.sources.synthea:SYNTHEA",
        "table": "ehr_bert.sources.mapped:TABLE",
    },
    _adopted,
)
"""Stores by the value of `--from`. `docs/stores.md` describes how to add one."""
