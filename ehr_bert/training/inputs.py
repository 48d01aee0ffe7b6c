"""Inputs of a training run: opened examples, and a recipe that fits them."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ehr_bert.errors import UserError
from ehr_bert.examples import packed
from ehr_bert.examples.mixture import Mixture
from ehr_bert.examples.reading import ExampleSet, ExamplesInfo, open_examples
from ehr_bert.logs import warn
from ehr_bert.model.config import ModelConfig
from ehr_bert.training.initial import inherited_shape
from ehr_bert.training.recipe import Phase, Recipe
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.pretrained import Pretrained

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSource:
    """Examples of one corpus at one window length.

    Attributes:
        train: TFRecord files to train on.
        held_out: TFRecord files to evaluate on. If there are none, the training files are used.
        name: Name of the corpus in mixtures. All window lengths of a corpus have the same name.
    """

    train: Sequence[Path]
    held_out: Sequence[Path] = ()
    name: str = ""


@dataclass(frozen=True)
class PretrainingInputs:
    """Opened examples, with a recipe that fits them.

    Attributes:
        recipe: Recipe, with the model's `vocab_size`.
        vocabulary: Tokens by id, if they are known.
        train: Examples to train on, by phase.
        files: Training files of the last phase.
        held_out: Examples to evaluate on.
        evaluates_training: Whether `held_out` are training examples because there are no others.
    """

    recipe: Recipe
    vocabulary: Vocabulary | None
    train: tuple[Mixture, ...]
    files: tuple[Path, ...]
    held_out: ExampleSet
    evaluates_training: bool

    @property
    def corpora(self) -> list[tuple[str, ExamplesInfo]]:
        """Distinct examples of all phases as (name, info). The name is empty for an unnamed corpus."""
        pairs = (pair for mixture in self.train for pair in mixture.corpora.items())
        return [(name, examples.info) for name, examples in dict.fromkeys(pairs)]

    @property
    def trained_on(self) -> list[ExamplesInfo]:
        """Distinct examples of all phases, without their names."""
        return [info for _, info in self.corpora]

    @property
    def mask_id(self) -> int:
        """Id of masked codes. It is 0 in examples of the original program, which record no id."""
        return self.trained_on[0].mask_id or 0

    @property
    def cls_id(self) -> int | None:
        """Id at the start of each patient. None if there is none."""
        return self.trained_on[0].cls_id


def open_inputs(
    recipe: Recipe,
    features: Sequence[FeatureSource],
    vocabulary_file: Path | None = None,
    max_predictions_per_seq: int | None = None,
    parent: Pretrained | None = None,
) -> PretrainingInputs:
    """Open all examples and complete the recipe.

    Args:
        recipe: Requested recipe.
        features: Examples. May have several window lengths, one per phase, and several corpora.
        vocabulary_file: Vocabulary that sets the model's `vocab_size`. If None, the one next to the examples.
        max_predictions_per_seq: Maximum number of masked codes used per tutorial example. If None, all.
        parent: Model to initialise from. A recipe without a model shape takes the shape of the parent.

    Raises:
        UserError: The examples, the vocabulary and the recipe do not fit together.
    """
    opened = [
        open_examples(source.train, max_predictions_per_seq=max_predictions_per_seq) for source in features
    ]
    offered = [(source.name, examples.info) for source, examples in zip(features, opened, strict=True)]
    chosen = [mixture_of(phase, number, offered) for number, phase in enumerate(recipe.phases, 1)]
    index = _held_out_of(recipe, chosen[-1], offered)
    held_out, held_out_files = opened[index], features[index].held_out
    if held_out_files:
        held_out = open_examples(held_out_files, max_predictions_per_seq=max_predictions_per_seq)
    infos = [*(info for _, info in offered), held_out.info]
    labels = [source.name or str(source.train[0]) for source in features]
    labels.append(str(held_out_files[0]) if held_out_files else labels[index])
    vocabulary = _vocabulary(vocabulary_file, labels, infos)
    model = inherited_shape(recipe.model, parent, vocabulary) if parent else recipe.model
    model = _fitting(model, vocabulary_file, vocabulary, infos)
    recipe = dataclasses.replace(recipe, model=model)
    for number, indices in enumerate(chosen, 1):
        for phase_index in indices.values():
            _check_phase(recipe, number, infos[phase_index])
    return PretrainingInputs(
        recipe=recipe,
        vocabulary=vocabulary,
        train=tuple(
            Mixture({name: opened[index] for name, index in indices.items()}, phase.mixture or {})
            for phase, indices in zip(recipe.phases, chosen, strict=True)
        ),
        files=tuple(file for last_index in chosen[-1].values() for file in features[last_index].train),
        held_out=held_out,
        evaluates_training=not held_out_files,
    )


def mixture_of(phase: Phase, number: int, offered: Sequence[tuple[str, ExamplesInfo]]) -> dict[str, int]:
    """Return the indices in `offered` of the examples for a phase, by corpus.

    Args:
        phase: Phase.
        number: Number of the phase, from 1.
        offered: Corpus name and description of each set of examples.

    Raises:
        UserError: A corpus is missing (key `unknown-corpus`), the examples of a corpus do not have the window
            length of the phase (`window-length-mismatch`), or there are several corpora and the phase has no
            mixture (`missing-mixture`).
    """
    if phase.mixture is None:
        fitting = (name for name, info in offered if phase.max_seq_length in (None, info.max_seq_length))
        corpora = sorted(set(fitting) - {""})
        if len(corpora) > 1:
            raise UserError(
                "missing-mixture",
                f"phases.{number} has no mixture, but there are features of {', '.join(corpora)}. Add one, "
                f"such as mixture = {{ {corpora[0]} = 1 }}.",
            )
        index = features_of(phase, number, [info for _, info in offered])
        return {offered[index][0]: index}
    key = f"phases.{number}.mixture"
    return {corpus: _index_of(corpus, key, phase, number, offered) for corpus in phase.mixture}


def _held_out_of(recipe: Recipe, last: Mapping[str, int], offered: Sequence[tuple[str, ExamplesInfo]]) -> int:
    """Return the index of the examples to evaluate on. Without a name, the last phase has one corpus."""
    if recipe.evaluation.corpus is None:
        (index,) = last.values()
        return index
    number = len(recipe.phases)
    return _index_of(recipe.evaluation.corpus, "evaluation.corpus", recipe.phases[-1], number, offered)


def _index_of(
    corpus: str, key: str, phase: Phase, number: int, offered: Sequence[tuple[str, ExamplesInfo]]
) -> int:
    indices = [index for index, (name, _) in enumerate(offered) if name == corpus]
    if not indices:
        names = ", ".join(sorted({name for name, _ in offered if name})) or "no named corpus"
        raise UserError(
            "unknown-corpus",
            f"{key} names the corpus {corpus}, but the features are of {names}. Name its folder "
            f"(--features {corpus}=FOLDER).",
        )
    return indices[features_of(phase, number, [offered[index][1] for index in indices])]


def features_of(phase: Phase, number: int, infos: Sequence[ExamplesInfo]) -> int:
    """Return the index in `infos` of the examples for a phase.

    Args:
        phase: Phase.
        number: Number of the phase, from 1.
        infos: Description of each set of examples.

    Raises:
        UserError: None or several of them have the window length of the phase (key `window-length-mismatch`).
    """
    requested = phase.max_seq_length
    lengths = [info.max_seq_length for info in infos]
    if len(infos) == 1:
        if requested and requested < lengths[0] and infos[0].kind == packed.PACKED:
            raise UserError(
                "window-length-mismatch",
                f"phases.{number}.max_seq_length is {requested}, but the examples are packed in windows of "
                f"up to {lengths[0]} tokens. Run `ehr-bert features --max-seq-length {requested}` with "
                "another output folder, and name both folders (--features A B).",
            )
        return 0
    indices = [index for index, length in enumerate(lengths) if length == requested]
    if len(indices) != 1:
        raise UserError(
            "window-length-mismatch",
            f"phases.{number}.max_seq_length is {requested or 'not set'}, but the features have windows of "
            f"up to {', '.join(map(str, lengths))} tokens. Name exactly one folder of the same length.",
        )
    return indices[0]


def _vocabulary(file: Path | None, labels: Sequence[str], infos: Sequence[ExamplesInfo]) -> Vocabulary | None:
    """Return the vocabulary of the file, or else of the examples. All must be equal."""
    pairs = zip(labels, infos, strict=True)
    known = [(label, info.vocabulary) for label, info in pairs if info.vocabulary]
    if file:
        vocabulary = Vocabulary.read(file)
        for label, other in known:
            if other.sha256 != vocabulary.sha256:
                raise UserError(
                    "vocabulary-mismatch",
                    f"{file} is not the vocabulary of {label}. Name the vocabulary that the examples were "
                    "made with.",
                )
        return vocabulary
    if not known:
        return None
    first, vocabulary = known[0]
    for label, other in known:
        if other.sha256 != vocabulary.sha256:
            raise UserError(
                "vocabulary-mismatch",
                f"{first} and {label} have different vocabularies. Make a common one (`ehr-bert "
                "vocabulary`) and write the examples again with it (`ehr-bert features --vocabulary`).",
            )
    return vocabulary


def _fitting(
    model: ModelConfig, file: Path | None, vocabulary: Vocabulary | None, infos: Sequence[ExamplesInfo]
) -> ModelConfig:
    """Return the model shape with its `vocab_size`, after checking that it fits the examples."""
    if vocabulary and (file or model.vocab_size is None):
        model = dataclasses.replace(model, vocab_size=len(vocabulary))
    if model.vocab_size is None:
        raise UserError(
            "missing-vocabulary",
            "there is no vocabulary next to the examples. Name one (--vocab_file), or set vocab_size.",
        )
    if vocabulary and model.vocab_size < len(vocabulary):
        raise UserError(
            "vocab-size-too-small",
            f"vocab_size of the model is {model.vocab_size}, but the vocabulary of the examples has "
            f"{len(vocabulary)} tokens. Remove vocab_size, or set it to at least that number.",
        )
    max_id = max(info.max_id for info in infos)
    if max_id >= model.vocab_size:
        raise UserError(
            "vocab-size-too-small",
            f"the examples have ids up to {max_id}, but vocab_size is {model.vocab_size}. Increase it, or "
            "use the vocabulary that the examples were made with.",
        )
    if model.stay_pooling == "cls" and infos[0].kind is not None and infos[0].cls_id is None:
        warn(
            logger,
            "no-cls-token",
            "the examples have no [CLS], so the prolonged-stay objective reads the first code instead.",
        )
        model = dataclasses.replace(model, stay_pooling="first")
    return model


def _check_phase(recipe: Recipe, number: int, info: ExamplesInfo) -> None:
    """Refuse settings of the recipe that the examples of a phase cannot fulfil."""
    positions, phase = recipe.model.max_position_embeddings, recipe.phases[number - 1]
    if min(info.longest, phase.max_seq_length or info.longest) > positions:
        raise UserError(
            "too-few-positions",
            f"the examples have up to {info.longest} tokens, but model.max_position_embeddings is "
            f"{positions}. Increase it, or set phases.{number}.max_seq_length.",
        )
    for objective in recipe.all_objectives().values():
        objective.check_examples(info)
