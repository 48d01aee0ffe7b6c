# Covers: ehr_bert.cli.convert
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import BertForPreTraining

from ehr_bert.cli import main
from tests.export.small import trained_model, training_folder
from tests.weights.published import MED_BERT, med_bert, random_weights

PROGRAM = Path(__file__).parent.parent / "convert" / "convert_tf_to_pytorch.py"


def run(*arguments):
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)


def test_the_program_exports_a_checkpoint_of_tensorflow_1(tmp_path):
    weights = random_weights(MED_BERT)
    prefix = med_bert(tmp_path / "old", weights)
    for file in ("bert_config.json", "cohort.types"):
        (tmp_path / "old" / file).rename(tmp_path / file)
    done = run(
        f"--checkpoint={prefix}",
        f"--bert_config_file={tmp_path / 'bert_config.json'}",
        f"--vocab_file={tmp_path / 'cohort.types'}",
        f"--output_dir={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    assert f"Exported model.ckpt-7 to {tmp_path / 'out'}." in done.stdout
    assert "replaced by [PAD] (id 0), and each patient started with a code" in done.stderr
    block = BertForPreTraining.from_pretrained(tmp_path / "out").bert.encoder.layer[1]
    kernel = weights["bert/encoder/layer_1/attention/self/key/kernel"]
    np.testing.assert_array_equal(block.attention.self.key.weight.detach().numpy(), kernel.T)


def test_the_help_describes_every_flag():
    printed = run("--help").stdout
    flags = "checkpoint bert_config_file output_dir vocab_file examples min_patients onnx"
    for flag in flags.split():
        assert f"--{flag}" in printed or f"--[no]{flag}" in printed


@pytest.mark.parametrize("name", ["", "model.ckpt-7"])
def test_the_command_exports_a_training_folder_or_a_checkpoint_and_prints_the_differences(
    tmp_path, capsys, name
):
    training = training_folder(tmp_path / "training", trained_model())
    assert main(["convert", str(training / name), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "TensorFlow and PyTorch agree on 7 patients" in printed
    assert "largest difference" in printed
    assert f"Exported model.ckpt-7 to {tmp_path / 'out'}." in printed
    assert BertForPreTraining.from_pretrained(tmp_path / "out").config.vocab_size == 29


def test_a_folder_without_a_checkpoint_is_refused(tmp_path, capsys):
    assert main(["convert", str(tmp_path), str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("ehr-bert convert: ")
