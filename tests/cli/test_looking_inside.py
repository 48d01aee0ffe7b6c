# Covers: ehr_bert.cli.explain, ehr_bert.cli.embeddings, ehr_bert.report.explaining
import csv
import json
import re
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ehr_bert.cli import main
from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.files import SUMMARY_FILE
from ehr_bert.metrics.calibration import Calibration, Method
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.predictor import make_predictor, save_predictor
from ehr_bert.report.explaining import row_of_patient
from tests.prediction.small import CODES, cohort_table, export_folder
from tests.report.test_html import Parsed

PATIENTS = [[CODES[:2], CODES[2:3]], [[CODES[5]], CODES[7:10]], [CODES[3:4]]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An export, a fine-tuned model and a cohort."""
    path = tmp_path_factory.mktemp("folders")
    export = export_folder(path / "export")
    calibration = Calibration(Method.TEMPERATURE, temperature=2.0)
    for outputs in (1, 2):
        predictor = make_predictor(bert_encoder(export), "mean", outputs, seed=2)
        save_predictor(path / f"model{outputs}", predictor, export, calibration, {"task": "heart_failure"})
    (path / "cohort" / COHORT_FOLDER).mkdir(parents=True)
    table = cohort_table(PATIENTS, heart_failure=pa.array([1, 0, None], pa.int32()))
    patients = pa.array(["Ann Other", "Bo Smith", "Bo Smith"])
    pq.write_table(table.set_column(0, "patient_id", patients), path / "cohort" / COHORT_FOLDER / "0.parquet")
    (path / "cohort" / SUMMARY_FILE).write_text("{}")
    return path


def explain(folders, out, *arguments, model="model1"):
    inputs = ("--model", folders / model, "--input", folders / "cohort")
    return main(["explain", *map(str, inputs), *map(str, arguments), str(out)])


def test_a_row_is_explained_on_a_page(folders, tmp_path, capsys):
    titles = tmp_path / "titles.tsv"
    titles.write_text(f"code\ttitle\n{CODES[0]}\tPlague\n")
    assert explain(folders, tmp_path / "a.html", "--row", 0, "--titles", titles) == 0
    out = capsys.readouterr().out
    risk = re.search(r"risk ([0-9.]+%); 3 codes contribute [+−][0-9.]+ to the logit", out)[1]  # noqa: RUF001
    text = Parsed((tmp_path / "a.html").read_text(encoding="utf-8")).text
    assert f"Risk of heart failure: {risk}" in text
    assert "row 0 of the cohort · train split · case" in text
    assert "Plague" in text
    for secret in ("Ann Other", str(tmp_path), str(folders)):
        assert secret not in text
        assert "Ann Other" not in out


def test_the_latest_row_of_a_patient_is_explained(folders, tmp_path, capsys):
    assert explain(folders, tmp_path / "a.html", "--patient", "Bo Smith") == 0
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "row 2 of the cohort · train split · outcome unknown" in page
    assert "Smith" not in page + capsys.readouterr().out
    assert explain(folders, tmp_path / "b.html", "--row", 2) == 0
    assert page == (tmp_path / "b.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "model", "key"),
    [
        (("--row", 3), "model1", "unknown-row"),
        (("--patient", "Ann"), "model1", "unknown-patient"),
        (("--row", 0), "model2", "several-outputs"),
        (("--row", 0), "export", "not-a-predictor"),
    ],
)
def test_invalid_requests_are_refused(folders, tmp_path, capsys, arguments, model, key):
    assert explain(folders, tmp_path / "a.html", *arguments, model=model) == 1
    assert f"[{key}]" in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize("model", ["export", "model1"])
def test_embeddings_of_an_export_or_a_fine_tuned_model(folders, tmp_path, capsys, model):
    arguments = ("--neighbours", CODES[3], "--top", 4, "--method", "pca")
    assert main(["embeddings", *map(str, (folders / model, tmp_path / "out", *arguments))]) == 0
    printed = [line.split()[1] for line in capsys.readouterr().out.splitlines()[1:5]]
    with open(tmp_path / "out" / "neighbours.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [row["neighbour"] for row in rows if row["code"] == CODES[3]] == printed
    assert len(rows) == 4 * len(CODES)
    assert json.loads((tmp_path / "out" / SUMMARY_FILE).read_text())["method"] == "pca"


def test_the_latest_row_has_the_latest_index_date_in_any_order():
    days = np.array(["2021-05-01", "2020-01-01", "2020-06-01"], "datetime64[D]")
    cohort = SimpleNamespace(patient_ids=np.array(["a", "b", "a"], object), index_date=days)
    assert [row_of_patient(cohort, patient) for patient in "ab"] == [0, 1]
