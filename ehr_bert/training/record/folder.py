"""The training folder, which pretraining writes and later stages read.

config.json       model shape                model.ckpt-<step>*  checkpoints: the newest few and marked ones
vocabulary.tsv    tokens by id, if known     checkpoint, best    names of the newest and the best checkpoint
recipe.toml       settings of the training   metrics.jsonl       one line per report and per evaluation
examples.json     training examples          events/             the same for TensorBoard
summary.json      speed and result           eval_results.txt    the last evaluation
ancestry.json     earlier training runs
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
    """Paths in a training folder, and the contents that later stages read."""

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
        """Folder of TensorBoard events."""
        return self.path / "events"

    def config(self) -> ModelConfig:
        """Read the shape of the model."""
        return ModelConfig.from_dict(read_json(self.config_file))

    def vocabulary(self) -> Vocabulary | None:
        """Read the vocabulary. None if the examples have none."""
        return Vocabulary.read(self.vocabulary_file) if self.vocabulary_file.exists() else None


def load_model(path: Path) -> PretrainingModel:
    """Return the model of a checkpoint, in float32.

    Args:
        path: As in `newest_checkpoint`.

    Raises:
        UserError: `path` has no checkpoint (key `no-checkpoint`), or its folder has no config
            (`unreadable-file`).
    """
    prefix = newest_checkpoint(path)
    model = build_model(TrainingFolder(Path(prefix).parent).config(), seed=0)
    load_weights(model, Path(prefix))
    return model
