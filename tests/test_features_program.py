# Covers: ehr_bert.cli.features, ehr_bert.programs, ehr_bert.quiet
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from ehr_bert.cli import command_parser
from ehr_bert.cli.features import run
from ehr_bert.pickles import write_bencs, write_pickles
from tests.examples.patients import batch_of, random_patients
from tests.examples.test_writing import sequences_folder
from tests.user_errors import raises_user_error

ROOT = Path(__file__).parents[1]
PROGRAM = "features/create_BERTpretrain_EHRfeatures.py"


def run_program(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, env=environment
    )


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tutorial")
    batch = batch_of(random_patients(41))
    write_bencs(folder / "P.bencs.train", [batch.slice(0, 30), batch.slice(30)], integer_ids=False)
    types = {"empty_pad": 0} | {f"ICD10_{code}": code for code in range(1, 306)}
    write_pickles(folder / "P.types", [types])
    return folder


def tutorial_arguments(folder, *more):
    return [
        f"--input_file={folder}/P.bencs.train",
        f"--vocab_file={folder}/P.types",
        "--max_predictions_per_seq=1",
        "--max_seq_length=64",
        *more,
    ]


def test_the_tutorials_command_writes_examples(tutorial):
    done = run_program(*tutorial_arguments(tutorial, f"--output_file={tutorial}/F"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("41 patients: 41 written as 41 examples")
    examples = [
        tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(f"{tutorial}/F")
    ]
    assert len(examples) == 41
    assert {len(example.features.feature["input_ids"].int64_list.value) for example in examples} == {64}
    assert {len(example.features.feature["masked_lm_ids"].int64_list.value) for example in examples} == {1}
    sidecar = json.loads((tutorial / "F.examples.json").read_text())
    assert sidecar["cls_id"] == 307
    assert sidecar["vocab_size"] == 310


def test_med_bert_and_several_files(tutorial):
    done = run_program(
        *tutorial_arguments(tutorial, f"--output_file={tutorial}/A,{tutorial}/B", "--med_bert")
    )
    assert done.returncode == 0, done.stderr
    sidecars = [json.loads((tutorial / f"{name}.examples.json").read_text()) for name in "AB"]
    assert [sidecar["mask_id"] for sidecar in sidecars] == [0, 0]
    assert [sidecar["cls_id"] for sidecar in sidecars] == [None, None]
    written = [sidecar["files"][name]["records"] for sidecar, name in zip(sidecars, "AB", strict=True)]
    (accounts,) = sidecars[0]["accounts"].values()
    assert sum(written) == accounts["examples"] == accounts["written"]
    assert accounts["short_first_stay"] > 0


def test_an_error_of_the_user_is_one_line(tutorial):
    write_pickles(tutorial / "short.types", [{"empty_pad": 0, "ICD10_1": 1}])
    done = run_program(
        *tutorial_arguments(tutorial, f"--output_file={tutorial}/E", f"--vocab_file={tutorial}/short.types")
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("create_BERTpretrain_EHRfeatures.py: ")
    assert last.endswith("[ids-out-of-range]")
    assert "Traceback" not in done.stderr
    assert not (tutorial / "E").exists()


def test_help_names_every_flag():
    help_text = run_program("--help").stdout
    for flag in (
        "input_file",
        "output_file",
        "max_seq_length",
        "max_predictions_per_seq",
        "masked_lm_prob",
        "vocab_file",
        "random_seed",
        "med_bert",
        "long_patients",
    ):
        assert f"{flag}:" in help_text


def features(folder, *options):
    arguments = command_parser("features").parse_args([str(folder / "in"), str(folder / "out"), *options])
    run(arguments)
    return json.loads((folder / "out" / "examples.json").read_text())


def test_the_command_packs_windows(tmp_path, capsys):
    sequences_folder(tmp_path / "in")
    sidecar = features(tmp_path, "--max-seq-length", "70", "--shards", "2", "--long-patients", "latest")
    assert sidecar["kind"] == "packed"
    assert sidecar["settings"] == {"seed": 12345, "window_lengths": [64, 70], "long_patients": "latest"}
    assert {name.rsplit("-", 3)[0] for name in sidecar["files"]} >= {"train-64", "valid-64"}
    assert [line.split(" patients")[0] for line in capsys.readouterr().out.splitlines()] == [
        "train: 58",
        "valid: 58",
    ]


def test_the_command_derives_the_tutorials_masked_codes_from_the_length(tmp_path):
    sequences_folder(tmp_path / "in")
    sidecar = features(tmp_path, "--tutorial", "--max-seq-length", "50")
    assert sidecar["kind"] == "tutorial"
    settings = sidecar["settings"]
    assert (settings["max_seq_length"], settings["max_predictions_per_seq"]) == (50, 8)
    assert (settings["masked_lm_prob"], settings["med_bert"]) == (0.15, False)


@pytest.mark.parametrize(
    "options", [["--masked-lm-prob", "0.2"], ["--max-predictions-per-seq", "9"], ["--med-bert"]]
)
def test_masking_options_are_for_the_tutorials_examples(tmp_path, options):
    with raises_user_error("setting-without-effect", options[0], "--tutorial"):
        features(tmp_path, *options)
