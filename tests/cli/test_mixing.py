# Covers: ehr_bert.cli.training_arguments
# Covers: ehr_bert.cli.vocabulary
"""Two corpora on the command line: their vocabulary, examples, a training of two phases, and its exports."""

import json
from pathlib import Path

from ehr_bert.cli import main
from ehr_bert.cli.pretrain import export_phases
from ehr_bert.cli.training_arguments import named_features
from ehr_bert.training.flops import ProductRate
from ehr_bert.training.record.checkpoints import newest_checkpoint
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.training.small import CODES, write_packed
from tests.user_errors import raises_user_error

RECIPE = """
compile = false
[model]
hidden_size = 12
num_hidden_layers = 1
num_attention_heads = 3
intermediate_size = 5
type_vocab_size = 6
[[phases]]
mixture = { A = 1, B = 1 }
batch_patients = 8
steps = 3
[[phases]]
mixture = { B = 1 }
carry_over = "weights"
batch_patients = 8
steps = 2
[evaluation]
corpus = "B"
"""


def sequences(folder: Path, first_code: int, patients: int) -> Path:
    """Write sequences with codes from a number on, each with a number of training patients."""
    write_packed(folder, 13)
    codes = (CodeCount(f"ICD9_{first_code + code:03}", patients, patients) for code in range(CODES))
    Vocabulary.from_counts(codes).write(folder / "sequences" / "vocabulary.tsv")
    return folder / "sequences"


def test_from_two_corpora_to_an_export_of_each_phase(tmp_path, capsys, monkeypatch):
    rate = ProductRate(flops_per_second=1e12, shape=(1, 1, 1), compiled=False)
    monkeypatch.setattr("ehr_bert.training.summary.measured_flops_per_second", lambda *_: rate)
    large, small = sequences(tmp_path / "A", 0, 90), sequences(tmp_path / "B", 100, 20)
    common = str(tmp_path / "AB.tsv")
    assert main(["vocabulary", str(large), str(small), common, "--amplify", "1", "5", "--size", "65"]) == 0
    assert capsys.readouterr().out == (
        f"65 tokens in {common}\n"
        f"{large}, 1 times: 20 of 40 codes, 50.00% of occurrences "
        "(without amplification 40 of 40 codes, 100.00% of occurrences)\n"
        f"{small}, 5 times: 40 of 40 codes, 100.00% of occurrences "
        "(without amplification 20 of 40 codes, 50.00% of occurrences)\n"
    )
    features = []
    for name, folder in (("A", large), ("B", small)):
        examples = str(tmp_path / f"F{name}")
        assert (
            main(["features", str(folder), examples, "--vocabulary", common, "--max-seq-length", "16"]) == 0
        )
        features.append(f"{name}={examples}")
    assert "tokens became [UNK]" in capsys.readouterr().out
    (tmp_path / "my.toml").write_text(RECIPE)
    training = tmp_path / "D"
    recipe = str(tmp_path / "my.toml")
    assert main(["pretrain", "--features", *features, "--recipe", recipe, "--output", str(training)]) == 0
    assert capsys.readouterr().out.count("Exported model.ckpt-") == 2
    for phase, step in ((1, 3), (2, 5)):
        assert newest_checkpoint(training / f"phase-{phase}").endswith(f"model.ckpt-{step}")
        summary = json.loads((training / "exports" / f"phase-{phase}" / "summary.json").read_text())
        assert summary["checkpoint"] == f"model.ckpt-{step}"
    export_phases(training, 2)
    assert capsys.readouterr().out == ""  # they exist


def test_features_are_folders_with_or_without_a_name(tmp_path):
    for folder in ("F", "x=1"):
        (tmp_path / folder).mkdir()
        for split in ("train", "valid"):
            (tmp_path / folder / f"{split}-00000-of-00001.tfrecord").write_bytes(b"")
    sources = named_features([f"A={tmp_path}/F", f"{tmp_path}/x=1"])
    assert [(source.name, source.train[0].parent.name) for source in sources] == [("A", "F"), ("", "x=1")]
    with raises_user_error("no-examples-match"):
        named_features([f"A={tmp_path}/none"])
