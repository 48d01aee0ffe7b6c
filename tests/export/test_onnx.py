import dataclasses
import sys

import numpy as np
import pytest
import torch

from ehr_bert.export import onnx
from ehr_bert.export.folder import export
from ehr_bert.export.model import hugging_face_model
from ehr_bert.export.onnx import Logits, write_onnx
from ehr_bert.export.parity import PARITY_TOLERANCE
from ehr_bert.model.config import STAY_POOLINGS
from tests.export.small import trained_model, training_folder
from tests.model.small import SMALL
from tests.user_errors import raises_user_error

HISTORIES = [[2, 7, 9, 4, 11], [2, 8, 13], [2]]
VISITS = [[0, 1, 1, 2, 5], [0, 1, 2], [0]]


def exported(pooling="cls"):
    return hugging_face_model(trained_model(dataclasses.replace(SMALL, stay_pooling=pooling)))


def padded(rows):
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])


def inputs():
    return {
        "input_ids": padded(HISTORIES),
        "attention_mask": padded([[1] * len(row) for row in HISTORIES]),
        "token_type_ids": padded(VISITS),
    }


@torch.no_grad()
def test_the_logits_are_the_stock_models():
    model, batch = exported(), inputs()
    logits, expected = Logits(model)(**batch), model(**batch)
    torch.testing.assert_close(logits, (expected.prediction_logits, expected.seq_relationship_logits))


@torch.no_grad()
@pytest.mark.parametrize("pooling", STAY_POOLINGS)
def test_the_traced_model_computes_all_shapes(pooling):
    model, batch = Logits(exported(pooling)).eval(), inputs()
    axes = dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)
    traced = torch.export.export(model, (), batch, dynamic_shapes=dict.fromkeys(batch, axes)).module()
    for histories, tokens in ((3, 5), (1, 3), (2, 1)):
        cut = {name: values[:histories, :tokens] for name, values in batch.items()}
        torch.testing.assert_close(traced(**cut), model(**cut))


def test_without_the_extra_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    training = training_folder(tmp_path / "training", trained_model())
    with raises_user_error("missing-extra", "onnxruntime", "ehr-bert[onnx]"):
        export(training, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pooling", STAY_POOLINGS)
def test_onnx_runtime_gives_the_same_logits(tmp_path, pooling):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, batch = exported(pooling), inputs()
    assert write_onnx(model, tmp_path / "model.onnx") <= PARITY_TOLERANCE
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    names = ("prediction_logits", "seq_relationship_logits")
    outputs = session.run(names, {name: values.numpy() for name, values in batch.items()})
    with torch.no_grad():
        expected = Logits(model)(**batch)
    for ours, theirs in zip(expected, outputs, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4)


def test_the_file_contains_no_paths_of_this_machine(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    write_onnx(exported(), tmp_path / "model.onnx")
    file = (tmp_path / "model.onnx").read_bytes()
    for path in (onnx.__file__, torch.__path__[0], str(tmp_path), sys.prefix):
        assert path.encode() not in file
    assert b".py" not in file


def test_logits_that_differ_leave_nothing_behind(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx, "PARITY_TOLERANCE", -1.0)
    training = training_folder(tmp_path / "training", trained_model())
    with raises_user_error("export-not-equal", "ONNX"):
        export(training, tmp_path / "out", onnx=True)
    assert not (tmp_path / "out").exists()


def test_the_export_folder_contains_it_on_request(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    training = training_folder(tmp_path / "training", trained_model())
    export(training, tmp_path / "out", onnx=True)
    assert (tmp_path / "out" / "model.onnx").exists()
    assert "`model.onnx` is the same model" in (tmp_path / "out" / "README.md").read_text()
