"""`ehr-bert convert`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import natural
from ehr_bert.export import MIN_PATIENTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument(
        "training",
        type=Path,
        help="training folder for its newest checkpoint, or `best` or a model.ckpt-<step> in one; a "
        "model.ckpt-<step> of google-research/bert or Med-BERT; with --to-tf1 an export folder",
    )
    parser.add_argument("output", type=Path, help="folder to write, for `AutoModel.from_pretrained`")
    parser.add_argument(
        "--vocab-file",
        type=Path,
        help="vocabulary, where the training folder has none, or one without counts",
    )
    parser.add_argument(
        "--examples", help="TFRecord files (commas, globs) to compare on; the training's if not given"
    )
    parser.add_argument(
        "--min-patients",
        type=natural,
        default=MIN_PATIENTS,
        metavar="K",
        help="codes that fewer patients of the training split have leave the vocabulary; 0 keeps all",
    )
    parser.add_argument("--onnx", action="store_true", help="write model.onnx too (needs the extra `onnx`)")
    parser.add_argument(
        "--bert-config-file", type=Path, help="config of a TensorFlow 1 checkpoint, where none lies beside it"
    )
    parser.add_argument(
        "--to-tf1",
        action="store_true",
        help="the way back: write an export folder as a TensorFlow 1 checkpoint, config and vocabulary",
    )


def run(arguments: argparse.Namespace) -> None:
    """Exports the model."""
    from ehr_bert.quiet import import_tensorflow

    import_tensorflow()
    if arguments.to_tf1:
        from ehr_bert.export.tensorflow1 import export_tensorflow1

        export_tensorflow1(arguments.training, arguments.output)
        return
    from ehr_bert.examples.reading import expand
    from ehr_bert.export.folder import export

    export(
        arguments.training,
        arguments.output,
        arguments.vocab_file,
        expand(arguments.examples) if arguments.examples else (),
        arguments.min_patients,
        arguments.bert_config_file,
        arguments.onnx,
    )
