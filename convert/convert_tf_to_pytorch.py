"""Export a pretrained model to a Hugging Face folder, and prove it equal.

    python convert/convert_tf_to_pytorch.py --checkpoint=D --output_dir=H
    python convert/convert_tf_to_pytorch.py --checkpoint=model.ckpt-N --bert_config_file=config.json
        --vocab_file=P.types --output_dir=H

D is a training folder, for its newest checkpoint, or a checkpoint D/model.ckpt-N. The second form takes a
checkpoint of google-research/bert or the original Med-BERT, made with TensorFlow 1. Nothing is written unless
TensorFlow and PyTorch give the same logits.
"""

import sys
from pathlib import Path

from absl import app, flags, logging

from ehr_bert.errors import UserError
from ehr_bert.export import MIN_PATIENTS
from ehr_bert.quiet import import_tensorflow

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "Training folder, or a checkpoint in one.", required=True)
flags.DEFINE_string(
    "bert_config_file", None, "Config of a TensorFlow 1 checkpoint, where none lies beside it."
)
flags.DEFINE_string("output_dir", None, "Folder to write; an earlier export is replaced.", required=True)
flags.DEFINE_string(
    "vocab_file", None, "vocabulary.tsv or .types, where the training folder has none, or one without counts."
)
flags.DEFINE_string(
    "examples", None, "TFRecord files (commas, globs) to compare on; the training's if not given."
)
flags.DEFINE_integer(
    "min_patients",
    MIN_PATIENTS,
    "Codes that fewer patients of the training split have leave the vocabulary; 0 keeps all.",
)
flags.DEFINE_bool("onnx", False, "Write model.onnx too (needs the extra `onnx`).")


def main(_: list[str]) -> None:
    """Runs the program."""
    logging.set_verbosity(logging.WARNING)
    import_tensorflow()
    from ehr_bert.examples.reading import expand
    from ehr_bert.export.folder import export

    export(
        Path(FLAGS.checkpoint),
        Path(FLAGS.output_dir),
        Path(FLAGS.vocab_file) if FLAGS.vocab_file else None,
        expand(FLAGS.examples) if FLAGS.examples else (),
        FLAGS.min_patients,
        Path(FLAGS.bert_config_file) if FLAGS.bert_config_file else None,
        FLAGS.onnx,
    )


def run_program(argv: list[str]) -> None:
    """Runs `main`; a fault that the user can mend ends it with one line."""
    try:
        main(argv)
    except UserError as error:
        sys.exit(f"convert_tf_to_pytorch.py: {error}")


if __name__ == "__main__":
    app.run(run_program)
