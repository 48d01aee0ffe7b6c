import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.metrics.calibration import Calibration, Method
from ehr_bert.prediction import serving
from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.fitting import predict_logits
from ehr_bert.prediction.predictor import MODEL_FOLDER, make_predictor, save_predictor
from ehr_bert.prediction.reading import ModelVocabulary, encode
from ehr_bert.prediction.serving import predict
from ehr_bert.sequences.folder import write_sequences_folder
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.prediction.small import CODES, cohort_table, histories_of, random_patients
from tests.user_errors import raises_user_error

PATIENTS = random_patients(9)
CALIBRATION = Calibration(Method.TEMPERATURE, temperature=2.0)
FIRST_DAY = np.datetime64("2020-01-01")


@pytest.fixture(scope="module")
def predictor(export):
    return make_predictor(bert_encoder(export), "gru")


@pytest.fixture(scope="module")
def model(export, predictor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    save_predictor(folder / MODEL_FOLDER, predictor, export, CALIBRATION, {})
    return folder


@pytest.fixture(scope="module")
def expected(export, predictor):
    """The risk of each patient."""
    encoded = encode(histories_of(PATIENTS), ModelVocabulary.of_folder(export))
    return 1 / (1 + np.exp(-predict_logits(predictor, encoded)[:, 0].astype(float) / 2))


@pytest.fixture
def cohort(tmp_path):
    table = cohort_table(PATIENTS)
    (tmp_path / "in" / COHORT_FOLDER).mkdir(parents=True)
    pq.write_table(table, tmp_path / "in" / COHORT_FOLDER / "0.parquet")
    (tmp_path / "in" / "summary.json").write_text("{}")
    return tmp_path / "in"


@pytest.fixture
def diagnoses(tmp_path):
    """The tutorial's table of the same patients, one visit every ten days; codes keep their order."""
    lines = ["patient\tadmit\tdischarge\tcode\tpoa\tpriority\tthird"]
    for number, visits in enumerate(PATIENTS):
        for visit, codes in enumerate(visits):
            day = FIRST_DAY + 10 * visit
            lines += [
                f"patient {number}\t{day}\t{day}\t{code}\t1\t{place}\t0" for place, code in enumerate(codes)
            ]
    path = tmp_path / "diagnoses.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def risks(table):
    return {row["patient_id"]: row["risk"] for row in table.to_pylist()}


def test_a_cohort_in_several_parts_gives_one_file(model, cohort, expected, engine, tmp_path, monkeypatch):
    file = cohort / COHORT_FOLDER / "0.parquet"
    days = pa.array([None] * 8 + [FIRST_DAY.item()], pa.date32())  # known only in the last part
    pq.write_table(pq.read_table(file).set_column(1, "index_date", days), file)
    monkeypatch.setattr(serving, "PART", 4)
    predict(model, cohort, tmp_path / "risks.parquet", engine)
    table = pq.read_table(tmp_path / "risks.parquet")
    np.testing.assert_allclose(table["risk"], expected, rtol=1e-5)
    assert table["index_date"].to_pylist() == days.to_pylist()


def test_risks_of_a_cohort_are_calibrated(model, cohort, expected, engine, tmp_path):
    served = predict(model, cohort, tmp_path / "risks.parquet", engine)
    table = pq.read_table(tmp_path / "risks.parquet")
    assert table.column_names == ["patient_id", "risk"]
    np.testing.assert_allclose(table["risk"], expected, rtol=1e-5)
    assert str(served) == f"risks of 9 histories, mean {expected.mean():.1%}"


def test_sequences_and_diagnoses_of_the_same_histories_have_the_same_risks(
    model, diagnoses, expected, engine, tmp_path
):
    known = Vocabulary.from_counts(CodeCount(code, 1, 1) for code in CODES)
    write_sequences_folder(engine, diagnoses, tmp_path / "sequences", given=known)
    for source in (tmp_path / "sequences", diagnoses):
        predict(model, source, tmp_path / "risks.csv", engine)
        written = risks(pa_csv.read_csv(tmp_path / "risks.csv"))
        np.testing.assert_allclose([written[f"patient {n}"] for n in range(9)], expected, rtol=1e-5)


def test_known_index_dates_are_written(model, cohort, engine, tmp_path):
    file = cohort / COHORT_FOLDER / "0.parquet"
    table = pq.read_table(file)
    days = pa.array(np.full(9, FIRST_DAY))
    pq.write_table(table.set_column(1, "index_date", days), file)
    predict(model, cohort, tmp_path / "risks.parquet", engine)
    written = pq.read_table(tmp_path / "risks.parquet")
    assert written.column_names == ["patient_id", "index_date", "risk"]
    assert written["index_date"].to_numpy()[0] == FIRST_DAY


def test_embeddings_are_what_the_head_reads(model, predictor, export, cohort, engine, tmp_path):
    predict(model, cohort, tmp_path / "risks.parquet", engine, embeddings=True)
    written = np.array(pq.read_table(tmp_path / "risks.parquet")["embedding"].to_pylist())
    encoded = encode(histories_of(PATIENTS), ModelVocabulary.of_folder(export))
    for row in range(len(PATIENTS)):
        batch = collate(encoded, np.array([row]))
        pooled = predictor.head.reduce(predictor.encoder(batch), batch)[0].detach()  # [K, H]
        np.testing.assert_allclose(written[row], pooled.mean(dim=0), atol=1e-5)


def test_missing_calibration_is_reported(export, predictor, cohort, engine, tmp_path):
    save_predictor(tmp_path / "plain", predictor, export, None, {})
    served = predict(tmp_path / "plain", cohort, tmp_path / "risks.csv", engine)
    assert not served.calibrated
    assert "not calibrated" in str(served)


def test_diagnoses_are_rolled_up_as_the_cohort_was(export, predictor, diagnoses, engine, tmp_path):
    text = diagnoses.read_text()
    diagnoses.write_text(text.replace("ICD10_E1\t", "ICD10_E10.65\t"))
    facts = {"cohort": {"roll_up": "3-character", "tokens": ["gap"]}}
    save_predictor(tmp_path / "plain", predictor, export, None, facts)
    predict(tmp_path / "plain", diagnoses, tmp_path / "one.csv", engine)
    diagnoses.write_text(text.replace("ICD10_E1\t", "ICD10_E10\t"))
    predict(tmp_path / "plain", diagnoses, tmp_path / "other.csv", engine)
    assert (tmp_path / "one.csv").read_text() == (tmp_path / "other.csv").read_text()


@pytest.mark.parametrize(
    ("name", "key"), [("risks.txt", "unsupported-format"), ("risks.csv", "embeddings-need-parquet")]
)
def test_unsupported_outputs_are_refused(model, cohort, engine, tmp_path, name, key):
    with raises_user_error(key, name):
        predict(model, cohort, tmp_path / name, engine, embeddings=True)


def test_an_empty_cohort_is_refused(model, engine, tmp_path):
    (tmp_path / "in" / COHORT_FOLDER).mkdir(parents=True)
    pq.write_table(cohort_table([]), tmp_path / "in" / COHORT_FOLDER / "0.parquet")
    (tmp_path / "in" / "summary.json").write_text(json.dumps({}))
    with raises_user_error("no-histories", tmp_path / "in"):
        predict(model, tmp_path / "in", tmp_path / "risks.csv", engine)
    assert not (tmp_path / "risks.csv").exists()


def test_a_predictor_of_several_outcomes_is_refused(export, cohort, engine, tmp_path):
    save_predictor(tmp_path / "two", make_predictor(bert_encoder(export), "cls", outputs=2), export, None, {})
    with raises_user_error("several-outputs", 2):
        predict(tmp_path / "two", cohort, tmp_path / "risks.csv", engine)
