"""What the published maps say of codes: their titles, and the categories they belong to.

They come with the package; `data/README.md` tells their source and year. Each is read when first asked for.
Codes in them carry their system's prefix.
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
    """What each code of ICD-9-CM and ICD-10-CM and each CCS category is called; headings aren't named."""
    return (
        _pairs(ICD9, ICD9_PREFIX, "title")
        | _pairs(ICD10, ICD10_PREFIX, "title")
        | _pairs(CCS, CCS_PREFIX, "title")
    )


@cache
def icd9_codes() -> frozenset[str]:
    """The codes of ICD-9-CM, retired ones among them."""
    return frozenset(_pairs(ICD9, ICD9_PREFIX, "code"))


@cache
def ccs_categories() -> Mapping[str, str]:
    """The CCS category of each code of ICD-9-CM and ICD-10-CM."""
    return _pairs(ICD9, ICD9_PREFIX, "ccs", CCS_PREFIX) | _pairs(ICD10, ICD10_PREFIX, "ccs", CCS_PREFIX)


@cache
def ccsr_categories() -> Mapping[str, str]:
    """The first CCSR category of each code of ICD-10-CM."""
    return _pairs(ICD10, ICD10_PREFIX, "ccsr", CCSR_PREFIX)


@cache
def icd10_equivalents() -> Mapping[str, str]:
    """A code of ICD-10-CM for each of ICD-9-CM that the General Equivalence Mappings map.

    Where they offer several: one that stands alone before one that holds only in combination with others,
    then the first of their file.
    """
    return _pairs(ICD9, ICD9_PREFIX, "icd10", ICD10_PREFIX)


def _pairs(name: str, key_prefix: str, column: str, prefix: str = "") -> dict[str, str]:
    table = pq.read_table(DATA / name)
    return {
        key_prefix + code: prefix + value
        for code, value in zip(table["code"].to_pylist(), table[column].to_pylist(), strict=True)
        if value is not None
    }
