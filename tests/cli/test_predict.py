import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from ehr_bert.cli import main
from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.predictor import make_predictor, save_predictor
from tests.prediction.small import cohort_table, export_folder, random_patients


def test_risks_are_written_and_no_patient_id_is_printed(tmp_path, capsys):
    export = export_folder(tmp_path / "export")
    save_predictor(tmp_path / "model", make_predictor(bert_encoder(export), "cls"), export, None, {})
    (tmp_path / "cohort" / COHORT_FOLDER).mkdir(parents=True)
    pq.write_table(cohort_table(random_patients(5)), tmp_path / "cohort" / COHORT_FOLDER / "0.parquet")
    (tmp_path / "cohort" / "summary.json").write_text("{}")
    arguments = ["--model", str(tmp_path / "model"), "--input", str(tmp_path / "cohort")]
    assert main(["predict", *arguments, str(tmp_path / "risks.csv")]) == 0
    risks = pa_csv.read_csv(tmp_path / "risks.csv")["risk"].to_numpy()
    assert ((risks > 0) & (risks < 1)).all()
    printed = capsys.readouterr()
    assert f"risks of 5 histories, mean {np.mean(risks):.1%}" in printed.out
    assert "patient 0" not in printed.out + printed.err


def test_an_export_folder_is_refused(tmp_path, capsys):
    export = export_folder(tmp_path / "export")
    arguments = ["--model", str(export), "--input", str(tmp_path), str(tmp_path / "risks.csv")]
    assert main(["predict", *arguments]) == 1
    assert "[not-a-predictor]" in capsys.readouterr().err
