"""Pretrain BERT on TFRecord examples with the objectives masked codes and prolonged stay.

    python pretrain/run_EHRpretraining.py --input_file=F --output_dir=D --do_train=True --do_eval=True
        --bert_config_file=pretrain/config.json --train_batch_size=32 --max_seq_length=512
        --max_predictions_per_seq=1 --num_train_steps=200 --num_warmup_steps=20 --learning_rate=5e-5

The flags are those of the program in the Med-BERT tutorial. Running it again with the same flags resumes from
the newest checkpoint in D.
"""

import dataclasses
import sys
from pathlib import Path

from absl import flags

from ehr_bert.programs import run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("bert_config_file", None, "Shape of the model (JSON).", required=True)
flags.DEFINE_string("input_file", None, "TFRecord files: a comma-separated list, or globs.", required=True)
flags.DEFINE_string("output_dir", None, "Training folder.", required=True)
flags.DEFINE_string("eval_file", None, "Held-out TFRecord files to evaluate on.")
flags.DEFINE_string("vocab_file", None, "vocabulary.tsv or .types, which sets vocab_size.")
flags.DEFINE_string("init_checkpoint", None, "Model to initialise from (docs/continuing.md).")
flags.DEFINE_enum("stay_pooling", None, ["cls", "first", "sum", "mean"], "Input of the stay objective.")
flags.DEFINE_bool("do_train", False, "Train.")
flags.DEFINE_bool("do_eval", False, "Evaluate, after the training if there is one.")
flags.DEFINE_integer(
    "max_seq_length", 128, "Window length; shorter examples are padded, longer ones truncated."
)
flags.DEFINE_integer("max_predictions_per_seq", 20, "Maximum number of masked codes per window.")
flags.DEFINE_integer("train_batch_size", 32, "Examples per update, over all devices.")
flags.DEFINE_integer("eval_batch_size", 8, "Examples evaluated at a time per device.")
flags.DEFINE_float("learning_rate", 5e-5, "Peak learning rate of AdamW.")
flags.DEFINE_integer("num_train_steps", 100_000, "Total number of updates.")
flags.DEFINE_integer("num_warmup_steps", 10_000, "Updates until the peak learning rate.")
flags.DEFINE_integer("save_checkpoints_steps", 10_000, "Updates between checkpoints.")
flags.DEFINE_integer("iterations_per_loop", 1000, "Updates between reports in TensorBoard and metrics.jsonl.")
flags.DEFINE_integer("max_eval_steps", 100, "Maximum number of batches per evaluation.")
flags.DEFINE_integer("random_seed", 12345, "Random seed of weights, dropout and the order of examples.")
flags.DEFINE_bool("use_tpu", False, "Train on a TPU.")
flags.DEFINE_string("tpu_name", None, "Name or grpc:// address of the TPU.")
flags.DEFINE_string("tpu_zone", None, "Zone of the TPU, if it is not that of this machine.")
flags.DEFINE_string("gcp_project", None, "Project of the TPU, if it is not that of this machine.")
flags.DEFINE_string("master", None, "grpc:// address of the TPU, if it has no name.")
flags.DEFINE_integer("num_tpu_cores", 8, "Number of TPU cores.")


def main() -> None:
    """Run the program."""
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
