"""`ehr-bert convert`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument(
        "training",
        type=Path,
        help="training folder for its newest checkpoint, or `best` or a model.ckpt-<step> in one",
    )
    parser.add_argument("output", type=Path, help="folder to write, for `AutoModel.from_pretrained`")
    parser.add_argument("--vocab-file", type=Path, help="vocabulary, where the training folder has none")
    parser.add_argument(
        "--examples", help="TFRecord files (commas, globs) to compare on; the training's if not given"
    )


def run(arguments: argparse.Namespace) -> None:
    """Exports the model."""
    from ehr_bert.quiet import import_tensorflow

    import_tensorflow()
    from ehr_bert.examples.reading import expand
    from ehr_bert.export.folder import export

    examples = expand(arguments.examples) if arguments.examples else ()
    export(arguments.training, arguments.output, arguments.vocab_file, examples)
