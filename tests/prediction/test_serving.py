import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from ehr_bert.cohorts.cohort import COHORT_FOLDER
from ehr_bert.errors import UserError
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
    """The tutorial's table of the same patients, a visit every ten days; codes keep their order."""
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


def test_parts_of_a_cohort_make_one_file(model, cohort, expected, engine, tmp_path, monkeypatch):
    file = cohort / COHORT_FOLDER / "0.parquet"
    days = pa.array([None] * 8 + [FIRST_DAY.item()], pa.date32())  # known in the last part alone
    pq.write_table(pq.read_table(file).set_column(1, "index_date", days), file)
    monkeypatch.setattr(serving, "PART", 4)
    predict(model, cohort, tmp_path / "risks.parquet", engine)
    table = pq.read_table(tmp_path / "risks.parquet")
    np.testing.assert_allclose(table["risk"], expected, rtol=1e-5)
    assert table["index_date"].to_pylist() == days.to_pylist()


def test_a_cohort_gets_calibrated_risks(model, cohort, expected, engine, tmp_path):
    served = predict(model, cohort, tmp_path / "risks.parquet", engine)
    table = pq.read_table(tmp_path / "risks.parquet")
    assert table.column_names == ["patient_id", "risk"]
    np.testing.assert_allclose(table["risk"], expected, rtol=1e-5)
    assert str(served) == f"risks of 9 histories, {expected.mean():.1%} on average"


def test_sequences_and_diagnoses_get_the_risks_of_the_same_histories(
    model, diagnoses, expected, engine, tmp_path
):
    known = Vocabulary.from_counts(CodeCount(code, 1, 1) for code in CODES)
    write_sequences_folder(engine, diagnoses, tmp_path / "sequences", given=known)
    for source in (tmp_path / "sequences", diagnoses):
        predict(model, source, tmp_path / "risks.csv", engine)
        found = risks(pa_csv.read_csv(tmp_path / "risks.csv"))
        np.testing.assert_allclose([found[f"patient {n}"] for n in range(9)], expected, rtol=1e-5)


def test_days_are_told_where_they_are_known(model, cohort, engine, tmp_path):
    file = cohort / COHORT_FOLDER / "0.parquet"
    table = pq.read_table(file)
    days = pa.array(np.full(9, FIRST_DAY))
    pq.write_table(table.set_column(1, "index_date", days), file)
    predict(model, cohort, tmp_path / "risks.parquet", engine)
    found = pq.read_table(tmp_path / "risks.parquet")
    assert found.column_names == ["patient_id", "index_date", "risk"]
    assert found["index_date"].to_numpy()[0] == FIRST_DAY


def test_embeddings_are_what_the_head_reads(model, predictor, export, cohort, engine, tmp_path):
    predict(model, cohort, tmp_path / "risks.parquet", engine, embeddings=True)
    found = np.array(pq.read_table(tmp_path / "risks.parquet")["embedding"].to_pylist())
    encoded = encode(histories_of(PATIENTS), ModelVocabulary.of_folder(export))
    for row in range(len(PATIENTS)):
        batch = collate(encoded, np.array([row]))
        reduced = predictor.head.reduce(predictor.encoder(batch), batch)[0].detach()  # [V, H]
        np.testing.assert_allclose(found[row], reduced.mean(dim=0), atol=1e-5)


def test_without_a_calibration_it_says_so(export, predictor, cohort, engine, tmp_path):
    save_predictor(tmp_path / "plain", predictor, export, None, {})
    served = predict(tmp_path / "plain", cohort, tmp_path / "risks.csv", engine)
    assert str(served).endswith("the model isn't calibrated")


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
    ("name", "message"), [("risks.txt", r"must end in \.parquet"), ("risks.csv", "embedd")]
)
def test_outputs_that_can_not_hold_it_are_refused(model, cohort, engine, tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        predict(model, cohort, tmp_path / name, engine, embeddings=True)


def test_nothing_to_predict_is_told(model, engine, tmp_path):
    (tmp_path / "in" / COHORT_FOLDER).mkdir(parents=True)
    pq.write_table(cohort_table([]), tmp_path / "in" / COHORT_FOLDER / "0.parquet")
    (tmp_path / "in" / "summary.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match="holds no history"):
        predict(model, tmp_path / "in", tmp_path / "risks.csv", engine)
    assert not (tmp_path / "risks.csv").exists()


def test_a_predictor_of_several_outcomes_is_refused(export, cohort, engine, tmp_path):
    save_predictor(tmp_path / "two", make_predictor(bert_encoder(export), "cls", outputs=2), export, None, {})
    with pytest.raises(UserError, match="has 2 outputs"):
        predict(tmp_path / "two", cohort, tmp_path / "risks.csv", engine)
