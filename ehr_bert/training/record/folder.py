"""The training folder: what a run leaves, and what later stages read from it.

config.json       the model's shape          model.ckpt-<step>*  checkpoints: the newest few, and marked ones
vocabulary.tsv    tokens by id, if known     checkpoint, best    which of them is the newest, and the best
recipe.toml       how it was trained         metrics.jsonl       a line a report, and one an evaluation
examples.json     what it was trained on     events/             the same for TensorBoard
summary.json      how the training went      eval_results.txt    the last evaluation
ancestry.json     the trainings before it
"""

from dataclasses import dataclass
from pathlib import Path

from ehr_bert.files import read_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import PretrainingModel, build_model
from ehr_bert.training.record.checkpoints import load_weights, newest_checkpoint
from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary


@dataclass(frozen=True)
class TrainingFolder:
    """The files of a training folder."""

    path: Path

    @property
    def config_file(self) -> Path:
        """`config.json`."""
        return self.path / "config.json"

    @property
    def recipe_file(self) -> Path:
        """`recipe.toml`."""
        return self.path / "recipe.toml"

    @property
    def examples_file(self) -> Path:
        """`examples.json`."""
        return self.path / "examples.json"

    @property
    def vocabulary_file(self) -> Path:
        """`vocabulary.tsv`."""
        return self.path / VOCABULARY_TABLE

    @property
    def metrics_file(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    @property
    def eval_results_file(self) -> Path:
        """`eval_results.txt`."""
        return self.path / "eval_results.txt"

    @property
    def summary_file(self) -> Path:
        """`summary.json`."""
        return self.path / "summary.json"

    @property
    def events(self) -> Path:
        """TensorBoard's folder."""
        return self.path / "events"

    def config(self) -> ModelConfig:
        """The model's shape."""
        return ModelConfig.from_dict(read_json(self.config_file))

    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary, or None where the examples came without one."""
        return Vocabulary.read(self.vocabulary_file) if self.vocabulary_file.exists() else None


def load_model(path: Path) -> PretrainingModel:
    """The model of a checkpoint, in float32.

    Args:
        path: A training folder, for its newest checkpoint; `folder/best`, for its best one, or
            `folder/phase-1`, for that at the end of a phase; or the prefix `folder/model.ckpt-<step>` itself.

    Raises:
        UserError: `path` holds no checkpoint, or its folder no config.
    """
    prefix = newest_checkpoint(path)
    model = build_model(TrainingFolder(Path(prefix).parent).config(), seed=0)
    load_weights(model, Path(prefix))
    return model
