"""Rebuild the maps of this package from the published files that `data/README.md` lists.

python -m ehr_bert.codes.make_maps FOLDER_OF_PUBLISHED_FILES
"""

import json
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.codes.maps import CCS, DATA, ICD9, ICD10


def write_maps(published: Path) -> None:
    """Read the published files and write the maps to the package."""
    icd9_ccs, icd10_ccs = published / "ccs_icd9_dxref_2015.csv", published / "icd_10_cm_to_ccs.csv.gz"
    icd9_titles = _read(published / "icd_9_cm_codes.csv.gz", "icd_9_cm", "long_description")
    icd9 = pd.DataFrame(
        {
            "title": icd9_titles.combine_first(_read(icd9_ccs, "ICD-9-CM CODE", "ICD-9-CM CODE DESCRIPTION")),
            "ccs": _read(icd9_ccs, "ICD-9-CM CODE", "CCS CATEGORY"),
            "icd10": _equivalents(published / "icd9toicd10cmgem.csv"),
        }
    )
    _write(icd9.set_axis([_dotted(code, 4 if code.startswith("E") else 3) for code in icd9.index]), ICD9)

    ccsr = pd.Series(json.loads((published / "dx_cat1_mapping.json").read_text(encoding="utf-8")))
    icd10_titles = _read(published / "icd_10_cm_codes.csv.gz", "icd_10_cm", "description")
    icd10 = pd.DataFrame(
        {
            "title": icd10_titles.combine_first(_read(icd10_ccs, "icd_10_cm", "description")),
            "ccs": _read(icd10_ccs, "icd_10_cm", "ccs_diagnosis_category"),
            "ccsr": ccsr[ccsr != ""],
        }
    )
    _write(icd10.set_axis([_dotted(code, 3) for code in icd10.index]), ICD10)

    names = _read(icd10_ccs, "ccs_diagnosis_category", "ccs_description")
    older_names = _read(icd9_ccs, "CCS CATEGORY", "CCS CATEGORY DESCRIPTION")
    _write(pd.DataFrame({"title": names.combine_first(older_names)}), CCS)


def _read(path: Path, key: str, value: str) -> pd.Series:
    """Return the first value of each key. Rows without a key are excluded."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    stripped = table[[key, value]].map(str.strip)
    return stripped[stripped[key] != ""].groupby(key)[value].first()


def _equivalents(path: Path) -> pd.Series:
    """Return one ICD-10-CM code per ICD-9-CM code: the first single code, or the first of a combination."""
    gems = pd.read_csv(path, dtype={"icd9cm": str, "icd10cm": str})
    gems = gems[gems["no_map"] == 0].sort_values(["icd9cm", "combination"], kind="stable")
    return gems.groupby("icd9cm")["icd10cm"].first().map(lambda code: _dotted(code, 3))


def _dotted(code: str, before: int) -> str:
    return f"{code[:before]}.{code[before:]}" if len(code) > before else code


def _write(table: pd.DataFrame, name: str) -> None:
    """Write a map, sorted by code. Missing values are null."""
    by_code = table.rename_axis("code").sort_index().reset_index()
    columns = pa.Table.from_pandas(by_code, preserve_index=False).replace_schema_metadata()
    pq.write_table(columns, DATA / name, compression="zstd", compression_level=19)


if __name__ == "__main__":
    write_maps(Path(sys.argv[1]))
