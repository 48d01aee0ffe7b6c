"""`ehr-bert pretrain`."""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the stage's arguments."""
    parser.add_argument("--features", type=Path, required=True, help="folder that `ehr-bert features` made")
    parser.add_argument("--output", type=Path, required=True, help="training folder; run again, it goes on")
    parser.add_argument("--config", type=Path, help="the model's shape, as JSON (Med-BERT's if not given)")
    parser.add_argument("--init-checkpoint", type=Path, help="training folder to take the first weights from")
    parser.add_argument("--steps", type=int, default=10_000, help="updates in all")
    parser.add_argument("--warmup-steps", type=int, default=1000, help="updates until the peak learning rate")
    parser.add_argument("--learning-rate", type=float, default=5e-5, help="peak learning rate of AdamW")
    parser.add_argument("--batch-size", type=int, default=32, help="examples an update, over all devices")
    parser.add_argument("--checkpoint-steps", type=int, default=1000, help="updates between checkpoints")
    parser.add_argument("--report-steps", type=int, default=100, help="updates between reports")
    parser.add_argument("--eval-steps", type=int, default=100, help="batches of the evaluation at most")
    parser.add_argument("--seed", type=int, default=12345, help="seed of weights, dropout and order")


def run(arguments: argparse.Namespace) -> None:
    """Trains on the training split of the features, and evaluates on their validation split."""
    from ehr_bert.quiet import import_tensorflow

    import_tensorflow()
    from ehr_bert.examples.reading import describe, expand
    from ehr_bert.model.config import ModelConfig
    from ehr_bert.training import run as training
    from ehr_bert.training.folder import read_json
    from ehr_bert.training.recipe import Recipe

    examples = expand(f"{arguments.features}/train-*.tfrecord")
    info = describe(examples)
    config = ModelConfig.from_dict(read_json(arguments.config)) if arguments.config else ModelConfig()
    training.run(
        training.Run(
            examples=examples,
            output=arguments.output,
            config=config,
            recipe=Recipe(
                max_seq_length=info.max_seq_length,
                max_predictions_per_seq=info.max_predictions_per_seq,
                batch_size=arguments.batch_size,
                steps=arguments.steps,
                warmup_steps=arguments.warmup_steps,
                learning_rate=arguments.learning_rate,
                seed=arguments.seed,
            ),
            eval_examples=expand(f"{arguments.features}/valid-*.tfrecord"),
            init_checkpoint=arguments.init_checkpoint,
            eval_batch_size=arguments.batch_size,
            max_eval_steps=arguments.eval_steps,
            checkpoint_every=arguments.checkpoint_steps,
            report_every=arguments.report_steps,
        )
    )
