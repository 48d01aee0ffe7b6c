import subprocess
import sys
from pathlib import Path

import numpy as np
from transformers import BertForPreTraining

from ehr_bert.cli import main
from tests.export.small import trained_model, training_folder
from tests.weights.published import MED_BERT, med_bert, random_weights

PROGRAM = Path(__file__).parent.parent / "convert" / "convert_tf_to_pytorch.py"


def run(*arguments):
    return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)


def test_the_program_exports_a_training_folder_and_says_how_equal_it_is(tmp_path):
    training = training_folder(tmp_path / "training", trained_model())
    done = run(f"--checkpoint={training}", f"--output_dir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "TensorFlow and PyTorch agree on 7 patients" in done.stdout
    assert "largest difference" in done.stdout
    assert BertForPreTraining.from_pretrained(tmp_path / "out").config.vocab_size == 29


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
    assert "model.ckpt-7 hid codes by [PAD] (id 0), and a code stood first" in done.stdout
    block = BertForPreTraining.from_pretrained(tmp_path / "out").bert.encoder.layer[1]
    kernel = weights["bert/encoder/layer_1/attention/self/key/kernel"]
    np.testing.assert_array_equal(block.attention.self.key.weight.detach().numpy(), kernel.T)


def test_a_fault_of_the_user_is_one_line(tmp_path):
    done = run(f"--checkpoint={tmp_path}", f"--output_dir={tmp_path / 'out'}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"convert_tf_to_pytorch.py: {tmp_path} holds no checkpoint"
    )
    assert "Traceback" not in done.stderr


def test_the_help_tells_every_flag():
    told = run("--help").stdout
    flags = "checkpoint bert_config_file output_dir vocab_file examples min_patients onnx"
    for flag in flags.split():
        assert f"--{flag}" in told or f"--[no]{flag}" in told


def test_the_command_exports_a_checkpoint(tmp_path, capsys):
    training = training_folder(tmp_path / "training", trained_model())
    assert main(["convert", str(training / "model.ckpt-7"), str(tmp_path / "out")]) == 0
    assert f"exported {training / 'model.ckpt-7'} to {tmp_path / 'out'}" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").exists()
