# Covers: ehr_bert.sources.registry, ehr_bert.sources.store
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ehr_bert.cli import main
from ehr_bert.engines import DuckDBEngine
from ehr_bert.registry import Registry
from ehr_bert.sources import registry
from ehr_bert.sources.registry import STORES
from ehr_bert.sources.store import Store, StoreOption
from ehr_bert.sources.tables import opened_tables
from tests.extension_command import run_with_extension
from tests.sources.stores import rows_of, write_tables
from tests.user_errors import raises_user_error

GUIDE = Path(__file__).parents[2] / "docs" / "stores.md"
BUILTIN = ["omop", "mimic-iv", "mimic-iii", "meds", "synthea", "table"]


def test_the_built_in_stores_have_the_names_by_which_they_are_found():
    assert list(STORES)[: len(BUILTIN)] == BUILTIN
    assert [STORES[name].name for name in BUILTIN] == BUILTIN


@pytest.mark.parametrize("name", BUILTIN)
def test_the_help_of_extract_describes_each_store(name, capsys):
    with pytest.raises(SystemExit):
        main(["extract", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    store = STORES[name]
    assert f"--from {name} ({store.title}):" in printed
    assert store.description in printed
    assert all(option.flag in printed for option in store.options)


def test_all_missing_tables_of_a_store_are_named(engine: DuckDBEngine, tmp_path):
    (tmp_path / "patients.csv").write_text("id\n1\n")
    with (
        opened_tables(engine, str(tmp_path), tmp_path) as tables,
        raises_user_error("missing-table", "conditions, encounters", "patients"),
    ):
        STORES["synthea"].records(tables)


@pytest.mark.parametrize("name", ["codes", "threads", "quiet"])
def test_two_stores_cannot_declare_one_option_nor_one_of_the_command(name, monkeypatch, capsys, tmp_path):
    other = Store("other", "Other", read=print, options=(StoreOption(name, help="an option"),))
    stores = Registry("store", "test.stores", {"omop": "ehr_bert.sources.omop:OMOP", "other": ""})
    stores._loaded["other"] = other
    monkeypatch.setattr(registry, "STORES", stores)
    assert main(["extract", "--from", "other", "in", "out"]) == 1
    warning, error = capsys.readouterr().err.splitlines()
    for line in (warning, error):
        assert f"--from other cannot be used: its option --{name.replace('_', '-')} exists" in line
        assert line.endswith("[duplicate-option]")
    assert main(["extract", "--from", "omop", str(tmp_path / "absent"), str(tmp_path / "out")]) == 1
    assert "[duplicate-option]" not in capsys.readouterr().err.splitlines()[-1]


def test_a_store_of_another_package_is_extracted_and_preprocessed(tmp_path):
    (tmp_path / "letters.csv").write_text(
        "patient,admitted,discharged,codes\n1,2020-01-01,2020-01-09,E11.9/i10\n2,2020-02-01,2020-02-01,I10\n"
    )
    extracted, sequences = tmp_path / "extracted", tmp_path / "sequences"
    store = ("--from", "discharge_letters", "--code-separator", "/", tmp_path / "letters.csv")
    for arguments in (("extract", *store, extracted), ("preprocess", extracted, sequences)):
        done = run_with_extension(*arguments)
        assert done.returncode == 0, done.stderr
    codes = pq.read_table(extracted / "events").select(["patient_id", "code"]).to_pylist()
    assert [tuple(row.values()) for row in codes] == [
        ("1", "ICD10_E11.9"),
        ("1", "ICD10_I10"),
        ("2", "ICD10_I10"),
    ]
    assert json.loads((sequences / "summary.json").read_text())["rows"]["read"] == 3
    refused = run_with_extension("extract", "--from", "meds", "--code-separator", "/", "in", "out")
    assert refused.stderr.endswith("[option-of-another-store]\n")


def test_the_example_of_the_guide_reads_a_store(engine: DuckDBEngine, tmp_path):
    (source,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    exec(source, names)
    write_tables(
        tmp_path / "store",
        {
            "cases": "case_id,patient,admitted,discharged\n1,a,2020-01-01,2020-01-02",
            "diagnoses": "case_id,patient,code\n1,a,E11.9",
        },
    )
    with opened_tables(engine, str(tmp_path / "store"), tmp_path) as tables:
        records = names["HOSPITAL_X"].records(tables, code_system="ICD10")
        rows = rows_of(engine, records, "patient_id", "code", "admit_date", "discharge_date", "reason")
    assert rows == [("a", "ICD10_E11.9", "2020-01-01", "2020-01-02", None)]
