"""Export a pretrained model to a Hugging Face folder, and verify that it computes the same.

    python convert/convert_tf_to_pytorch.py --checkpoint=D --output_dir=H
    python convert/convert_tf_to_pytorch.py --checkpoint=model.ckpt-N --bert_config_file=config.json
        --vocab_file=P.types --output_dir=H

D is a training folder, for its newest checkpoint, or a checkpoint D/model.ckpt-N. The second form reads a
TensorFlow 1 checkpoint of google-research/bert or the original Med-BERT. Nothing is written unless TensorFlow
and PyTorch compute the same logits.
"""

from pathlib import Path

from absl import flags

from ehr_bert.export import MIN_PATIENTS
from ehr_bert.programs import run_program

FLAGS = flags.FLAGS

flags.DEFINE_string("checkpoint", None, "Training folder, or a checkpoint in it.", required=True)
flags.DEFINE_string(
    "bert_config_file", None, "Config of a TensorFlow 1 checkpoint, if its folder contains none."
)
flags.DEFINE_string("output_dir", None, "Folder to write. An earlier export is replaced.", required=True)
flags.DEFINE_string(
    "vocab_file", None, "vocabulary.tsv or .types, if the training folder has none, or one without counts."
)
flags.DEFINE_string(
    "examples", None, "TFRecord files (commas, globs) to compare on. By default those of the training."
)
flags.DEFINE_integer(
    "min_patients",
    MIN_PATIENTS,
    "Omit codes that fewer patients of the training split have. 0 keeps all.",
    lower_bound=0,
)
flags.DEFINE_bool("onnx", False, "Also write model.onnx (needs the extra `onnx`).")


def main() -> None:
    """Run the program."""
    from ehr_bert.examples.reading import expand
    from ehr_bert.export.folder import export

    report = export(
        Path(FLAGS.checkpoint),
        Path(FLAGS.output_dir),
        Path(FLAGS.vocab_file) if FLAGS.vocab_file else None,
        expand(FLAGS.examples) if FLAGS.examples else (),
        FLAGS.min_patients,
        Path(FLAGS.bert_config_file) if FLAGS.bert_config_file else None,
        FLAGS.onnx,
    )
    print(report)


if __name__ == "__main__":
    run_program("convert_tf_to_pytorch.py", main)
