"""Registry of the stores that `ehr-bert extract` can read."""

from ehr_bert.registry import Registry
from ehr_bert.sources.store import Store

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
)
"""Stores by the value of `--from`. `docs/stores.md` describes how to add one."""
