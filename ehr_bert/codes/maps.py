"""Published maps of diagnosis codes to titles, categories and equivalent codes.

The maps are part of the package; `data/README.md` lists their sources. Each map is read on first use.
Codes have the prefix of their system.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pyarrow.parquet as pq

from ehr_bert.codes.systems import CCS_PREFIX, CCSR_PREFIX, ICD9_PREFIX, ICD10_PREFIX

DATA = Path(__file__).parent / "data"
ICD9 = "icd9cm.parquet"
ICD10 = "icd10cm.parquet"
CCS = "ccs.parquet"


@cache
def titles() -> Mapping[str, str]:
    """Return the titles of ICD-9-CM and ICD-10-CM codes and CCS categories. Headings have no title."""
    return (
        _pairs(ICD9, ICD9_PREFIX, "title")
        | _pairs(ICD10, ICD10_PREFIX, "title")
        | _pairs(CCS, CCS_PREFIX, "title")
    )


@cache
def icd9_codes() -> frozenset[str]:
    """Return the codes of ICD-9-CM, including retired codes."""
    return frozenset(_pairs(ICD9, ICD9_PREFIX, "code"))


@cache
def ccs_categories() -> Mapping[str, str]:
    """Return the CCS category of each ICD-9-CM and ICD-10-CM code."""
    return _pairs(ICD9, ICD9_PREFIX, "ccs", CCS_PREFIX) | _pairs(ICD10, ICD10_PREFIX, "ccs", CCS_PREFIX)


@cache
def ccsr_categories() -> Mapping[str, str]:
    """Return the first CCSR category of each ICD-10-CM code."""
    return _pairs(ICD10, ICD10_PREFIX, "ccsr", CCSR_PREFIX)


@cache
def icd10_equivalents() -> Mapping[str, str]:
    """Return an ICD-10-CM code for each ICD-9-CM code in the General Equivalence Mappings.

    If the mappings contain several codes, single codes are preferred to combinations of codes, then the first
    one in the file.
    """
    return _pairs(ICD9, ICD9_PREFIX, "icd10", ICD10_PREFIX)


def _pairs(name: str, key_prefix: str, column: str, prefix: str = "") -> dict[str, str]:
    table = pq.read_table(DATA / name)
    return {
        key_prefix + code: prefix + value
        for code, value in zip(table["code"].to_pylist(), table[column].to_pylist(), strict=True)
        if value is not None
    }
