"""`ehr-bert convert`."""

import argparse
from pathlib import Path

from ehr_bert.cli.counts import natural
from ehr_bert.export import MIN_PATIENTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "training",
        type=Path,
        help="training folder, for its newest checkpoint, or its subfolder `best` or a model.ckpt-<step> in "
        "it; a model.ckpt-<step> of google-research/bert or Med-BERT; with --to-tf1 an export folder",
    )
    parser.add_argument("output", type=Path, help="folder to write, which `AutoModel.from_pretrained` reads")
    parser.add_argument(
        "--vocab-file",
        type=Path,
        help="vocabulary, if the training folder has none or only one without counts",
    )
    parser.add_argument(
        "--examples",
        metavar="FILES",
        help="TFRecord files (commas, globs) to compare both models on; by default those of the training run",
    )
    parser.add_argument(
        "--min-patients",
        type=natural,
        default=MIN_PATIENTS,
        metavar="K",
        help="omit codes that fewer than K patients of the training split have; 0 keeps all",
    )
    parser.add_argument("--onnx", action="store_true", help="also write model.onnx (needs the extra `onnx`)")
    parser.add_argument(
        "--bert-config-file",
        type=Path,
        help="config of a TensorFlow 1 checkpoint, if its folder has none",
    )
    parser.add_argument(
        "--to-tf1",
        action="store_true",
        help="convert an export folder back to a TensorFlow 1 checkpoint with its config and vocabulary",
    )


def run(arguments: argparse.Namespace) -> None:
    """Export the model."""
    from ehr_bert.quiet import import_tensorflow

    import_tensorflow()
    if arguments.to_tf1:
        from ehr_bert.export.tensorflow1 import export_tensorflow1

        checkpoint = export_tensorflow1(arguments.training, arguments.output)
        print(f"Converted {arguments.training} to {checkpoint}.")
        return
    from ehr_bert.examples.reading import expand
    from ehr_bert.export.folder import export

    report = export(
        arguments.training,
        arguments.output,
        arguments.vocab_file,
        expand(arguments.examples) if arguments.examples else (),
        arguments.min_patients,
        arguments.bert_config_file,
        arguments.onnx,
    )
    print(report)
