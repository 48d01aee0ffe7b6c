import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import torch
from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.examples.tutorial import TutorialSettings
from ehr_bert.examples.writing import write_files
from ehr_bert.export.folder import export
from ehr_bert.model.config import ModelConfig
from ehr_bert.pickles import read_bencs, write_pickles
from ehr_bert.training.recipe import Recipe
from ehr_bert.training.run import Run, run
from ehr_bert.vocabulary import CodeCount, Vocabulary

LENGTH, MASKED = 11, 2
CONFIG = ModelConfig(
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=5,
    max_position_embeddings=17,
    type_vocab_size=6,
)
RECIPE = Recipe(
    max_seq_length=17, max_predictions_per_seq=3, batch_size=5, steps=6, warmup_steps=2, learning_rate=1e-2
)


def write_examples(folder: Path, name: str = "F", med_bert: bool = False, codes: int = 40) -> Path:
    """Twenty-three patients of up to nine codes in up to four visits."""
    rng = np.random.default_rng(0)
    vocabulary = Vocabulary.from_counts(CodeCount(f"ICD9_{code:03}", 1, 1) for code in range(codes))
    records = []
    for patient in range(23):
        visits = np.sort(rng.integers(0, 4, rng.integers(1, 10)))
        visits = np.unique(visits, return_inverse=True)[1] + 1
        stays = [int(stay) for stay in rng.choice([1, 2, 9], visits.max())]
        ids = rng.integers(5, len(vocabulary), len(visits)).tolist()
        records.append([patient, stays, [0] * len(stays), ids, visits.tolist()])
    folder.mkdir(exist_ok=True)
    write_pickles(folder / "P.bencs.train", [records])
    settings = TutorialSettings(LENGTH, MASKED, 0.3, seed=0, med_bert=med_bert)
    write_files(read_bencs(folder / "P.bencs.train"), "P", vocabulary, settings, [folder / name])
    return folder / name


def asked(folder: Path, **changes) -> Run:
    examples = changes.pop("examples", None) or [write_examples(folder)]
    return Run(examples=examples, output=folder / "D", config=CONFIG, recipe=RECIPE, **changes)


def hugging_face_losses(exported: Path, file: Path) -> tuple[float, float]:
    """Both losses of stock `BertForPreTraining`, on a file parsed by the original's fixed-length spec."""
    spec = {
        **{
            name: tf.io.FixedLenFeature([LENGTH], tf.int64)
            for name in ("input_ids", "input_mask", "segment_ids")
        },
        **{
            name: tf.io.FixedLenFeature([MASKED], tf.int64)
            for name in ("masked_lm_positions", "masked_lm_ids")
        },
        "masked_lm_weights": tf.io.FixedLenFeature([MASKED], tf.float32),
        "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
    }
    serialized = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    stored = {name: values.numpy() for name, values in tf.io.parse_example(serialized, spec).items()}
    labels = np.full_like(stored["input_ids"], -100)
    rows, places = np.nonzero(stored["masked_lm_weights"])
    labels[rows, stored["masked_lm_positions"][rows, places]] = stored["masked_lm_ids"][rows, places]
    model = BertForPreTraining.from_pretrained(exported).eval()
    with torch.no_grad():
        found = model(
            torch.tensor(stored["input_ids"]),
            attention_mask=torch.tensor(stored["input_mask"]),
            token_type_ids=torch.tensor(np.minimum(stored["segment_ids"], CONFIG.type_vocab_size - 1)),
        )
    cross_entropy = torch.nn.functional.cross_entropy
    return (
        float(cross_entropy(found.prediction_logits.flatten(0, 1), torch.tensor(labels).flatten())),
        float(
            cross_entropy(found.seq_relationship_logits, torch.tensor(stored["next_sentence_labels"][:, 0]))
        ),
    )


def test_the_losses_it_reports_are_those_of_stock_bert_from_the_same_file(tmp_path):
    evaluation = run(asked(tmp_path))
    export(tmp_path / "D", tmp_path / "H")
    masked_lm_loss, stay_loss = hugging_face_losses(tmp_path / "H", tmp_path / "F")
    assert evaluation is not None
    assert evaluation.examples == 23
    assert evaluation.masked_lm_loss == pytest.approx(masked_lm_loss, abs=1e-4)
    assert evaluation.next_sentence_loss == pytest.approx(stay_loss, abs=1e-4)


def test_a_run_leaves_a_training_folder(tmp_path, capsys):
    run(asked(tmp_path, report_every=4))
    folder = tmp_path / "D"
    results = dict(line.split(" = ") for line in (folder / "eval_results.txt").read_text().splitlines())
    assert list(results) == [
        "global_step",
        "loss",
        "masked_lm_accuracy",
        "masked_lm_loss",
        "next_sentence_accuracy",
        "next_sentence_auroc",
        "next_sentence_loss",
    ]
    assert results["global_step"] == "6"
    assert json.loads((folder / "config.json").read_text())["vocab_size"] == 45
    assert Vocabulary.read(folder / "vocabulary.tsv").tokens[5] == "ICD9_000"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 6, 6]
    assert lines[-1]["eval/masked_lm_loss"] == float(results["masked_lm_loss"])
    assert list((folder / "events").iterdir())
    assert "evaluating on the TRAINING examples" in capsys.readouterr().out


def test_held_out_examples_are_evaluated_without_a_warning(tmp_path, capsys):
    held_out = write_examples(tmp_path, "held_out")
    evaluation = run(asked(tmp_path, eval_examples=[held_out], max_eval_steps=2, eval_batch_size=4))
    assert evaluation is not None
    assert evaluation.examples == 8
    assert "TRAINING" not in capsys.readouterr().out


def test_evaluation_alone_gives_the_figures_of_before(tmp_path):
    before = run(asked(tmp_path))
    assert run(asked(tmp_path, train=False)) == before


def test_a_window_longer_than_all_examples_changes_no_figure(tmp_path):
    first = run(asked(tmp_path))
    recipe = dataclasses.replace(RECIPE, max_seq_length=LENGTH)
    second = run(dataclasses.replace(asked(tmp_path), recipe=recipe, output=tmp_path / "other"))
    assert first == second


def test_examples_without_cls_are_pooled_at_their_first_code(tmp_path, capsys):
    run(asked(tmp_path, examples=[write_examples(tmp_path, "med_bert", med_bert=True)]))
    assert "have no [CLS]" in capsys.readouterr().out
    assert json.loads((tmp_path / "D" / "config.json").read_text())["stay_pooling"] == "first"


def test_the_first_weights_can_come_from_another_training(tmp_path):
    run(asked(tmp_path, evaluate=False))
    still = dataclasses.replace(RECIPE, learning_rate=0.0)
    again = dataclasses.replace(
        asked(tmp_path, init_checkpoint=tmp_path / "D"), output=tmp_path / "E", recipe=still
    )
    assert run(again) == run(asked(tmp_path, train=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": False, "evaluate": False}, "nothing to do"),
        ({"train": False}, "holds no checkpoint"),
        ({"config": dataclasses.replace(CONFIG, vocab_size=99)}, "vocab_size is 99, .* has 45 tokens"),
        ({"config": dataclasses.replace(CONFIG, max_position_embeddings=16)}, "17 is over .* 16"),
    ],
)
def test_what_does_not_fit_is_refused_with_both_numbers(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        run(dataclasses.replace(asked(tmp_path), **changes))


def test_a_named_vocabulary_sets_the_size_and_must_be_the_examples_own(tmp_path):
    wanted = asked(tmp_path, vocabulary=tmp_path / "F.vocabulary.tsv", evaluate=False)
    run(dataclasses.replace(wanted, config=dataclasses.replace(CONFIG, vocab_size=99)))
    assert json.loads((tmp_path / "D" / "config.json").read_text())["vocab_size"] == 45
    Vocabulary.from_counts([CodeCount("other", 1, 1)]).write(tmp_path / "other.tsv")
    with pytest.raises(UserError, match="is not the vocabulary that F was made with"):
        run(dataclasses.replace(wanted, vocabulary=tmp_path / "other.tsv"))


def test_held_out_examples_of_another_vocabulary_are_refused(tmp_path):
    held_out = write_examples(tmp_path / "other", codes=41)
    with pytest.raises(UserError, match="vocabular"):
        run(asked(tmp_path, eval_examples=[held_out]))


def test_the_original_program_s_examples_need_a_vocabulary_or_its_size(tmp_path):
    file = write_examples(tmp_path)
    for sidecar in ("F.examples.json", "F.vocabulary.tsv"):
        (tmp_path / sidecar).unlink()
    wanted = asked(tmp_path, examples=[file])
    with pytest.raises(UserError, match="come without a vocabulary"):
        run(wanted)
    with pytest.raises(UserError, match="vocab_size is 12"):
        run(dataclasses.replace(wanted, config=dataclasses.replace(CONFIG, vocab_size=12)))
    assert run(dataclasses.replace(wanted, config=dataclasses.replace(CONFIG, vocab_size=50)))


def test_a_folder_that_holds_another_training_is_refused_by_the_key_that_differs(tmp_path):
    run(asked(tmp_path, evaluate=False))
    with pytest.raises(UserError, match=r"learning_rate is 0.01, not 0.02 \(recipe.json\)"):
        run(dataclasses.replace(asked(tmp_path), recipe=dataclasses.replace(RECIPE, learning_rate=0.02)))
    other = dataclasses.replace(CONFIG, hidden_act="relu")
    with pytest.raises(UserError, match=r"hidden_act is gelu, not relu \(config.json\)"):
        run(dataclasses.replace(asked(tmp_path), config=other))


def test_a_types_pickle_that_names_a_global_is_refused(tmp_path):
    bad = tmp_path / "P.types"
    bad.write_bytes(pickle.dumps(np.arange(3)))
    with pytest.raises(UserError, match="refused, pickle 1: it names numpy"):
        run(asked(tmp_path, vocabulary=bad))
    run(asked(tmp_path, evaluate=False))
    with pytest.raises(UserError, match="refused, pickle 1: it names numpy"):
        export(tmp_path / "D", tmp_path / "H", vocabulary_file=bad)
