"""Pretrain BERT on TFRecord examples: masked codes and prolonged stay.

    python pretrain/run_EHRpretraining.py --input_file=F --output_dir=D --do_train=True --do_eval=True
        --bert_config_file=pretrain/config.json --train_batch_size=32 --max_seq_length=512
        --max_predictions_per_seq=1 --num_train_steps=200 --num_warmup_steps=20 --learning_rate=5e-5

The flags are those of the Med-BERT tutorial's program. Run again with the same flags, it goes on from the
newest checkpoint in D.
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from ehr_bert.programs import run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("bert_config_file", None, "The model's shape, as JSON.", required=True)
flags.DEFINE_string("input_file", None, "TFRecord files: a list with commas, or globs.", required=True)
flags.DEFINE_string("output_dir", None, "The training folder.", required=True)
flags.DEFINE_string("eval_file", None, "TFRecord files to evaluate on, held out from training.")
flags.DEFINE_string("vocab_file", None, "vocabulary.tsv or .types; it sets the config's vocab_size.")
flags.DEFINE_string("init_checkpoint", None, "Model to begin with (docs/continuing.md tells which).")
flags.DEFINE_enum("stay_pooling", None, ["cls", "first", "sum", "mean"], "Where the stay objective looks.")
flags.DEFINE_bool("do_train", False, "Train.")
flags.DEFINE_bool("do_eval", False, "Evaluate, after training if that is asked for too.")
flags.DEFINE_integer("max_seq_length", 128, "Window; shorter examples are padded, longer ones cut.")
flags.DEFINE_integer("max_predictions_per_seq", 20, "Masked codes of a window at most.")
flags.DEFINE_integer("train_batch_size", 32, "Examples an update, over all devices.")
flags.DEFINE_integer("eval_batch_size", 8, "Examples that a device evaluates at a time.")
flags.DEFINE_float("learning_rate", 5e-5, "The peak learning rate of AdamW.")
flags.DEFINE_integer("num_train_steps", 100_000, "Updates in all.")
flags.DEFINE_integer("num_warmup_steps", 10_000, "Updates until the learning rate is at its peak.")
flags.DEFINE_integer("save_checkpoints_steps", 10_000, "Updates between checkpoints.")
flags.DEFINE_integer("iterations_per_loop", 1000, "Updates between points of TensorBoard and metrics.jsonl.")
flags.DEFINE_integer("max_eval_steps", 100, "Batches of an evaluation at most.")
flags.DEFINE_integer("random_seed", 12345, "Seed of weights, dropout and the order of examples.")
flags.DEFINE_bool("use_tpu", False, "Train on a TPU.")
flags.DEFINE_string("tpu_name", None, "The TPU's name or grpc:// address.")
flags.DEFINE_string("tpu_zone", None, "The TPU's zone, if it isn't this machine's.")
flags.DEFINE_string("gcp_project", None, "The TPU's project, if it isn't this machine's.")
flags.DEFINE_string("master", None, "The TPU's grpc:// address, if it has no name.")
flags.DEFINE_integer("num_tpu_cores", 8, "Cores of the TPU.")


def main() -> None:
    """Runs the program."""
    from ehr_bert.examples.reading import expand
    from ehr_bert.files import read_json
    from ehr_bert.model.config import ModelConfig
    from ehr_bert.training.devices import Devices, Tpu
    from ehr_bert.training.execution import pretrain
    from ehr_bert.training.inputs import FeatureSource
    from ehr_bert.training.recipe import Checkpointing, EvaluationSettings, Phase, Recipe
    from ehr_bert.training.request import PretrainingRequest

    config = ModelConfig.from_dict(read_json(Path(FLAGS.bert_config_file)))
    if FLAGS.stay_pooling:
        config = dataclasses.replace(config, stay_pooling=FLAGS.stay_pooling)
    phase = Phase(
        max_seq_length=FLAGS.max_seq_length,
        batch_patients=FLAGS.train_batch_size,
        steps=FLAGS.num_train_steps,
        learning_rate=FLAGS.learning_rate,
        warmup_steps=FLAGS.num_warmup_steps,
    )
    recipe = Recipe(
        init=FLAGS.init_checkpoint,
        seed=FLAGS.random_seed,
        report_every=FLAGS.iterations_per_loop,
        model=config,
        phases=(phase,),
        evaluation=EvaluationSettings(max_batches=FLAGS.max_eval_steps),
        checkpoints=Checkpointing(every_steps=FLAGS.save_checkpoints_steps),
    )
    tpu = Tpu(FLAGS.tpu_name, FLAGS.tpu_zone, FLAGS.gcp_project, FLAGS.master, FLAGS.num_tpu_cores)
    held_out = expand(FLAGS.eval_file) if FLAGS.eval_file else []
    result = pretrain(
        PretrainingRequest(
            features=[FeatureSource(expand(FLAGS.input_file), held_out)],
            output=Path(FLAGS.output_dir),
            recipe=recipe,
            devices=Devices(tpu=tpu if FLAGS.use_tpu else None),
            vocabulary=Path(FLAGS.vocab_file) if FLAGS.vocab_file else None,
            init_config=Path(FLAGS.bert_config_file),
            max_predictions_per_seq=FLAGS.max_predictions_per_seq,
            eval_batch_size=FLAGS.eval_batch_size,
            train=FLAGS.do_train,
            evaluate=FLAGS.do_eval,
        )
    )
    if result.checkpoint:
        print(result)
    sys.exit(result.reason.exit_code)


if __name__ == "__main__":
    run_program("run_EHRpretraining.py", main)
