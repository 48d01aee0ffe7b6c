"""The command lines of the published tutorial."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent

LINES = """
preprocess/preprocess_pretrain_data.py example_data/data_file.tsv NA {P} 0
features/create_BERTpretrain_EHRfeatures.py --input_file={P}.bencs.train --output_file={F} --vocab_file={P}.types --max_predictions_per_seq=1 --max_seq_length=64
pretrain/run_EHRpretraining.py --input_file={F} --output_dir={D} --do_train=True --do_eval=True --bert_config_file=pretrain/config.json --train_batch_size=32 --max_seq_length=512 --max_predictions_per_seq=1 --num_train_steps=200 --num_warmup_steps=20 --learning_rate=5e-5
convert/convert_tf_to_pytorch.py --checkpoint={D} --output_dir={H}
"""  # noqa: E501

PROGRAMS = [line.split()[0] for line in LINES.strip().splitlines()]


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=CHECKOUT, capture_output=True, text=True)


@pytest.mark.slow
def test_the_tutorial_runs_as_published_and_its_model_loads_in_pytorch(tmp_path):
    paths = {name: str(tmp_path / name) for name in "PFDH"}
    for line in LINES.strip().splitlines():
        done = run(*line.format(**paths).split())
        assert done.returncode == 0, done.stderr
    assert "global_step = 200\n" in (tmp_path / "D" / "eval_results.txt").read_text()
    load = (
        "from transformers import AutoModel, AutoTokenizer\n"
        f"tokenizer = AutoTokenizer.from_pretrained({paths['H']!r}, trust_remote_code=True)\n"
        "inputs = tokenizer('ICD9_401.9 ICD9_272.4 | ICD9_428.0', return_tensors='pt')\n"
        f"print(AutoModel.from_pretrained({paths['H']!r})(**inputs).last_hidden_state.shape)\n"
    )
    assert run("-c", load).stdout == "torch.Size([1, 4, 192])\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_has_a_short_help(program):
    done = run(program, "--help")
    assert 5 < len(done.stdout.splitlines()) < 100
    assert "Traceback" not in done.stderr


class Command:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize("flag", ["types", "bencs", "vocab_file"])
def test_every_program_that_reads_pickles_refuses_one_that_runs_code(tmp_path, flag):
    bad = str(tmp_path / "bad")
    Path(bad).write_bytes(pickle.dumps([Command()]))
    good = tmp_path / "P.types"
    good.write_bytes(pickle.dumps({"empty_pad": 0, "ICD9_250.00": 1}))
    lines = {
        "types": [PROGRAMS[0], "example_data/data_file.tsv", bad, str(tmp_path / "P"), "0"],
        "bencs": [PROGRAMS[1], f"--input_file={bad}", f"--output_file={bad}F", f"--vocab_file={good}"],
        "vocab_file": [PROGRAMS[1], f"--input_file={bad}", f"--output_file={bad}F", f"--vocab_file={bad}"],
    }
    done = run(*lines[flag])
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "posix.system" in done.stderr
    assert "[unsafe-pickle]" in done.stderr
    assert not (CHECKOUT / "owned").exists()
