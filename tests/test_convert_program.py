import subprocess
import sys
from pathlib import Path

from transformers import BertForPreTraining

from ehr_bert.cli import main
from tests.export.small import trained_model, training_folder

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


def test_a_fault_of_the_user_is_one_line(tmp_path):
    done = run(f"--checkpoint={tmp_path}", f"--output_dir={tmp_path / 'out'}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"convert_tf_to_pytorch.py: {tmp_path} holds no checkpoint"
    )
    assert "Traceback" not in done.stderr


def test_the_help_tells_every_flag():
    told = run("--help").stdout
    for flag in ("--checkpoint", "--output_dir", "--vocab_file", "--examples"):
        assert flag in told


def test_the_command_exports_a_checkpoint(tmp_path, capsys):
    training = training_folder(tmp_path / "training", trained_model())
    assert main(["convert", str(training / "model.ckpt-7"), str(tmp_path / "out")]) == 0
    assert f"exported {training / 'model.ckpt-7'} to {tmp_path / 'out'}" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").exists()
