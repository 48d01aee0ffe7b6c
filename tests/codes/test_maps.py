# Covers: ehr_bert.codes.make_maps, ehr_bert.codes.maps
import csv
import gzip
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ehr_bert.codes import make_maps, maps
from ehr_bert.codes.maps import ccs_categories, ccsr_categories, icd9_codes, icd10_equivalents, titles

SHARED = Path(os.environ.get("EHR_BERT_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
PUBLISHED = SHARED / "icd-maps"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the published files")


def rows(name: str) -> list[dict[str, str]]:
    opened = gzip.open if name.endswith(".gz") else open
    with opened(PUBLISHED / name, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def dotted(prefix: str, code: str) -> str:
    before = 4 if prefix == "ICD9_" and code[0] == "E" else 3
    return prefix + code[:before] + ("." if code[before:] else "") + code[before:]


def test_maps_contain_common_codes() -> None:
    assert titles()["ICD9_428.0"] == "Congestive heart failure, unspecified"
    assert titles()["ICD10_E11.9"] == "Type 2 diabetes mellitus without complications"
    assert titles()["CCS_108"] == "Congestive heart failure; nonhypertensive"
    assert ccs_categories()["ICD9_410.71"] == ccs_categories()["ICD10_I21.4"] == "CCS_100"
    assert ccs_categories()["ICD9_E885.9"] == "CCS_2603"
    assert ccsr_categories()["ICD10_I50.9"] == "CCSR_CIR019"
    assert icd10_equivalents()["ICD9_250.00"] == "ICD10_E11.9"
    assert {"ICD9_V58.61", "ICD9_E885.9", "ICD9_038.1"} < icd9_codes()


def test_codes_without_a_mapping_have_no_equivalent() -> None:
    assert "ICD9_365.70" in icd9_codes()
    assert "ICD9_365.70" not in icd10_equivalents()


def test_maps_are_small() -> None:
    assert sum(path.stat().st_size for path in maps.DATA.iterdir()) < 2_000_000


@published
def test_maps_agree_with_the_published_files() -> None:
    icd9_ccs = {
        dotted("ICD9_", row["ICD-9-CM CODE"].strip()): "CCS_" + row["CCS CATEGORY"].strip()
        for row in rows("ccs_icd9_dxref_2015.csv")
        if row["ICD-9-CM CODE"].strip()
    }
    icd10_ccs = {
        dotted("ICD10_", row["icd_10_cm"].strip()): "CCS_" + row["ccs_diagnosis_category"].strip()
        for row in rows("icd_10_cm_to_ccs.csv.gz")
    }
    assert ccs_categories() == icd9_ccs | icd10_ccs
    ccsr = json.loads((PUBLISHED / "dx_cat1_mapping.json").read_text())
    assert ccsr_categories() == {
        dotted("ICD10_", code): f"CCSR_{category}" for code, category in ccsr.items() if category
    }
    for name, column, title, prefix in (
        ("icd_9_cm_codes.csv.gz", "icd_9_cm", "long_description", "ICD9_"),
        ("icd_10_cm_codes.csv.gz", "icd_10_cm", "description", "ICD10_"),
    ):
        expected = {dotted(prefix, row[column]): row[title].strip() for row in rows(name)}
        assert expected.items() <= titles().items()


@published
def test_an_equivalent_is_the_first_single_code_or_else_the_first_combination() -> None:
    candidates: dict[str, list[tuple[str, str]]] = {}
    for row in rows("icd9toicd10cmgem.csv"):
        if row["no_map"] == "0":
            target = (row["combination"], dotted("ICD10_", row["icd10cm"]))
            candidates.setdefault(dotted("ICD9_", row["icd9cm"]), []).append(target)
    assert icd10_equivalents() == {
        code: next((target for combined, target in targets if combined == "0"), targets[0][1])
        for code, targets in candidates.items()
    }


@published
def test_rebuilding_the_maps_gives_the_same_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_maps, "DATA", tmp_path)
    make_maps.write_maps(PUBLISHED)
    rebuilt = sorted(path.name for path in tmp_path.iterdir())
    assert rebuilt == sorted(path.name for path in maps.DATA.glob("*.parquet"))
    assert all(pq.read_table(tmp_path / name).equals(pq.read_table(maps.DATA / name)) for name in rebuilt)
