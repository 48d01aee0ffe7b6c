"""The ancestry of a model: which trainings, on which corpora, made its weights.

`ancestry.json` lies in a training folder and travels with exports. It names weights, vocabularies, recipes
and corpora by fingerprints.
"""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from ehr_bert.files import read_json, write_json
from ehr_bert.settings import Natural, Settings
from ehr_bert.training.record.folder import TrainingFolder
from ehr_bert.weights.pretrained import Pretrained

FILE = "ancestry.json"

TRAINING, HUGGING_FACE, TENSORFLOW_1 = "ehr-bert training", "Hugging Face folder", "TensorFlow 1 checkpoint"
"""What a generation's weights come from."""


@dataclass(frozen=True)
class Corpus(Settings):
    """Examples that a model was trained on.

    Attributes:
        fingerprint: That of `ExamplesInfo`.
        patients: Patients of all windows.
        real_tokens: Tokens of all windows, padding not counted.
        name: What the mixture calls it, if it has a name.
    """

    fingerprint: str
    patients: Natural
    real_tokens: Natural
    name: str | None = None


@dataclass(frozen=True)
class Generation(Settings):
    """One training in a model's ancestry, or a model that came from elsewhere; what is None is unknown.

    Attributes:
        origin: What its weights come from.
        weights_sha256: `Pretrained.sha256` of what it passed on; None while it is being trained.
        steps: Updates behind those weights, in this training.
        vocabulary_sha256: `Vocabulary.sha256`.
        tokens: Tokens of the vocabulary.
        recipe_sha256: Fingerprint of all its settings.
        corpora: What it was trained on.
    """

    origin: str
    weights_sha256: str | None = None
    steps: Natural | None = None
    vocabulary_sha256: str | None = None
    tokens: Natural | None = None
    recipe_sha256: str | None = None
    corpora: tuple[Corpus, ...] = ()

    def __str__(self) -> str:
        updates = "" if self.steps is None else f", {self.steps:,} update{'s' * (self.steps != 1)}"
        lines = [f"{self.origin}{updates}"]
        tokens = "" if self.tokens is None else f" ({self.tokens:,} tokens)"
        for what, told in (
            ("weights", self.weights_sha256),
            ("vocabulary", self.vocabulary_sha256 and self.vocabulary_sha256 + tokens),
            ("recipe", self.recipe_sha256),
        ):
            lines.append(f"  {what:<11}{told or 'unknown'}")
        for corpus in self.corpora:
            name = f"{corpus.name}, " if corpus.name else ""
            lines.append(
                f"  corpus     {corpus.fingerprint} ({name}{corpus.patients:,} patients, "
                f"{corpus.real_tokens:,} tokens)"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Ancestry(Settings):
    """A line of descent.

    Attributes:
        generations: The newest first; each began with the weights of the one after it, the last at random or,
            where its origin is no training of this program, in a way unknown.
    """

    generations: tuple[Generation, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> "Ancestry":
        """What a folder tells of its model; nothing if it has no `ancestry.json`."""
        file = folder / FILE
        return cls.from_dict(read_json(file)) if file.exists() else cls()

    def write(self, folder: Path) -> None:
        """Writes `ancestry.json`."""
        write_json(folder / FILE, self.to_dict())

    def __str__(self) -> str:
        return "\nbegan with\n".join(map(str, self.generations))


def ancestry_of(model: Pretrained) -> Ancestry:
    """The ancestry of a model that was read, its newest generation told whole."""
    source = model.source
    folder = source if source.is_dir() else source.parent
    newest, *older = Ancestry.read(folder).generations or (_unrecorded(model, folder),)
    newest = dataclasses.replace(
        newest,
        weights_sha256=model.sha256,
        steps=_step_named(source) if newest.steps is None else newest.steps,
    )
    return Ancestry((newest, *older))


def record_ancestry(folder: Path, own: Generation, parent: Pretrained | None, resumed: bool) -> None:
    """Writes the ancestry of a training into its folder.

    Args:
        folder: The training folder.
        own: What is told of this training.
        parent: The model whose weights it begins with, if there is one.
        resumed: Whether the training in the folder is resumed. Its corpora are kept and new ones are added.
    """
    older = ancestry_of(parent).generations if parent else ()
    if resumed:
        before, *rest = Ancestry.read(folder).generations or (own,)
        corpora = dict.fromkeys((*before.corpora, *own.corpora))
        own, older = dataclasses.replace(own, corpora=tuple(corpora)), tuple(rest)
    Ancestry((own, *older)).write(folder)


def _unrecorded(model: Pretrained, folder: Path) -> Generation:
    """The generation of a model that came without an `ancestry.json`."""
    if model.source.is_dir():
        origin = HUGGING_FACE
    else:
        origin = TRAINING if TrainingFolder(folder).recipe_file.exists() else TENSORFLOW_1
    vocabulary = model.vocabulary
    return Generation(
        origin,
        vocabulary_sha256=vocabulary.sha256 if vocabulary else None,
        tokens=len(vocabulary) if vocabulary else None,
    )


def _step_named(source: Path) -> int | None:
    """The updates that a checkpoint's name tells."""
    found = re.search(r"-(\d+)$", source.name)
    return int(found[1]) if found and not source.is_dir() else None
