"""A request to pretrain a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ehr_bert.training.devices import Devices
from ehr_bert.training.inputs import FeatureSource
from ehr_bert.training.recipe import Recipe


@dataclass(frozen=True)
class PretrainingRequest:
    """A request to pretrain a model, to evaluate it, or both.

    Attributes:
        features: Examples. May have several window lengths, one per phase.
        output: Training folder. It is created if it is missing; a training run in it is resumed.
        recipe: How to train.
        devices: Where to train.
        force: Whether to resume a training run that has another recipe or other examples.
        profile: Whether to profile a few updates for TensorBoard.
        vocabulary: Vocabulary that sets the model's `vocab_size`. If None, the one next to the examples.
        init_config: Config of an `init` that is a TensorFlow 1 checkpoint. If None, the one next to it.
        max_predictions_per_seq: Maximum number of masked codes used per tutorial example. If None, all.
        eval_batch_size: Examples evaluated at a time per device. If None, a full micro-batch.
        train: Whether to train.
        evaluate: Whether to evaluate.
    """

    features: Sequence[FeatureSource]
    output: Path
    recipe: Recipe
    devices: Devices = field(default_factory=Devices)
    force: bool = False
    profile: bool = False
    vocabulary: Path | None = None
    init_config: Path | None = None
    max_predictions_per_seq: int | None = None
    eval_batch_size: int | None = None
    train: bool = True
    evaluate: bool = True
