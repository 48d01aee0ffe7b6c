"""DuckDB and Spark write the same bytes."""

import pytest

from ehr_bert.cohorts import folder as folder_module
from ehr_bert.cohorts.definition import Definition
from ehr_bert.cohorts.folder import write_cohort_folder
from ehr_bert.schemas import ContextKind
from tests.cohorts.reference import write_extracted
from tests.cohorts.test_building import DEFINITIONS, some_patients
from tests.sequences.messy import messy_rows

pytestmark = pytest.mark.spark


def written(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_with_both(engines, table, out, definition, **options):
    """Return the files that both engines write, by name."""
    for name, engine in engines.items():
        write_cohort_folder(engine, table, out / name, definition, **options)
    files = written(out / "duckdb")
    assert written(out / "spark") == files
    return files


@pytest.fixture
def engines(engine, spark, monkeypatch):
    monkeypatch.setattr(folder_module, "SHARD_EXAMPLES", 23)
    return {"duckdb": engine, "spark": spark}


@pytest.fixture
def table(tmp_path):
    return write_extracted(tmp_path / "store", messy_rows(80, seed=71), some_patients(75))


@pytest.mark.slow
def test_a_matched_cohort(engines, table, tmp_path):
    values = DEFINITIONS["before the outcome"] | {"matching": {"controls": 1, "by": ["sex", "age_band"]}}
    write_with_both(engines, table, tmp_path, Definition.from_dict(values))


@pytest.mark.slow
def test_several_tasks_with_context_tokens(engines, table, tmp_path):
    several = Definition.from_dict(DEFINITIONS["several tasks"])
    files = write_with_both(engines, table, tmp_path, several, kinds=frozenset(ContextKind), seed=2)
    assert len([name for name in files if name.startswith("cohort/")]) > 2


def test_labels_from_a_file(engines, table, tmp_path):
    labels = tmp_path / "labels.tsv"
    lines = [f"{patient}\t2016-01-01\t{patient % 2}\t0.{patient}\n" for patient in range(90)]
    labels.write_text("".join(["patient_id\tindex_date\tlabel\trisk\n", *lines]))
    assert "risk.parquet" in write_with_both(engines, table, tmp_path, labels)
