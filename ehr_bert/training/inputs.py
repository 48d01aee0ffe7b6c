"""What a training takes in: its examples are opened, and its recipe is made to fit them, or refused."""

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
from ehr_bert.training.recipe import MaskedCodes, Phase, Recipe
from ehr_bert.vocabulary import Vocabulary
from ehr_bert.weights.pretrained import Pretrained

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FeatureSource:
    """Examples of one length, of one corpus.

    Attributes:
        train: TFRecord files to train on.
        held_out: TFRecord files to evaluate on; those of the training if there are none.
        name: What mixtures call the corpus; those of a corpus at several lengths have one name.
    """

    train: Sequence[Path]
    held_out: Sequence[Path] = ()
    name: str = ""


@dataclass(frozen=True)
class PretrainingInputs:
    """Opened examples, with a recipe that fits them.

    Attributes:
        recipe: With the model's `vocab_size`.
        vocabulary: The tokens, if they are known.
        train: Examples to train on, by phase.
        files: Those of the last phase.
        held_out: Examples to evaluate on.
        evaluates_training: Whether these are examples to train on, for want of others.
    """

    recipe: Recipe
    vocabulary: Vocabulary | None
    train: tuple[Mixture, ...]
    files: tuple[Path, ...]
    held_out: ExampleSet
    evaluates_training: bool

    @property
    def corpora(self) -> list[tuple[str, ExamplesInfo]]:
        """What the examples of all phases hold, each once, with the corpus' name, empty if it has none."""
        pairs = (pair for mixture in self.train for pair in mixture.corpora.items())
        return [(name, examples.info) for name, examples in dict.fromkeys(pairs)]

    @property
    def trained_on(self) -> list[ExamplesInfo]:
        """What the examples of all phases hold, each once."""
        return [info for _, info in self.corpora]

    @property
    def mask_id(self) -> int:
        """Id that hides a code. It is 0 in examples of the original program, which record no id."""
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
    """Opens all examples.

    Args:
        recipe: As it was asked for.
        features: Examples; of several lengths, for phases whose windows differ, and of several corpora.
        vocabulary_file: Sets the model's `vocab_size`; the vocabulary beside the examples if None.
        max_predictions_per_seq: Masked codes that count of each of the tutorial's examples; all if None.
        parent: The model that the training begins with; a recipe that states no shape takes its.

    Raises:
        UserError: the examples, the vocabulary and the recipe don't fit together.
    """
    opened = [open_examples(each.train, max_predictions_per_seq=max_predictions_per_seq) for each in features]
    offered = [(each.name, examples.info) for each, examples in zip(features, opened, strict=True)]
    chosen = [mixture_of(phase, number, offered) for number, phase in enumerate(recipe.phases, 1)]
    place = _held_out_of(recipe, chosen[-1], offered)
    held_out, held_out_files = opened[place], features[place].held_out
    if held_out_files:
        held_out = open_examples(held_out_files, max_predictions_per_seq=max_predictions_per_seq)
    infos = [*(info for _, info in offered), held_out.info]
    labels = [each.name or str(each.train[0]) for each in features]
    labels.append(str(held_out_files[0]) if held_out_files else labels[place])
    vocabulary = _vocabulary(vocabulary_file, labels, infos)
    model = inherited_shape(recipe.model, parent, vocabulary) if parent else recipe.model
    model = _fitting(model, vocabulary_file, vocabulary, infos)
    recipe = dataclasses.replace(recipe, model=model)
    for number, places in enumerate(chosen, 1):
        for each in places.values():
            _check_phase(recipe, number, infos[each])
    return PretrainingInputs(
        recipe=recipe,
        vocabulary=vocabulary,
        train=tuple(
            Mixture({name: opened[each] for name, each in places.items()}, phase.mixture or {})
            for phase, places in zip(recipe.phases, chosen, strict=True)
        ),
        files=tuple(file for each in chosen[-1].values() for file in features[each].train),
        held_out=held_out,
        evaluates_training=not held_out_files,
    )


def mixture_of(phase: Phase, number: int, offered: Sequence[tuple[str, ExamplesInfo]]) -> dict[str, int]:
    """The places in `offered` of the examples that a phase takes, by corpus.

    Args:
        phase: The phase.
        number: Its number, from 1.
        offered: The corpus of each of the features, and what they hold.

    Raises:
        UserError: a corpus is not there, or none of its features, or several, have the phase's length; or
            several corpora have it, and the phase states none.
    """
    if phase.mixture is None:
        fitting = (name for name, info in offered if phase.max_seq_length in (None, info.max_seq_length))
        corpora = sorted(set(fitting) - {""})
        if len(corpora) > 1:
            raise UserError(
                f"phases.{number} states no mixture, and there are features of {', '.join(corpora)}: state "
                f"which it takes, such as mixture = {{ {corpora[0]} = 1 }}"
            )
        place = features_of(phase, number, [info for _, info in offered])
        return {offered[place][0]: place}
    key = f"phases.{number}.mixture"
    return {corpus: _place_of(corpus, key, phase, number, offered) for corpus in phase.mixture}


def _held_out_of(recipe: Recipe, last: Mapping[str, int], offered: Sequence[tuple[str, ExamplesInfo]]) -> int:
    """The place of the features to evaluate on; where the recipe names no corpus, the last phase has one."""
    if recipe.evaluation.corpus is None:
        (place,) = last.values()
        return place
    number = len(recipe.phases)
    return _place_of(recipe.evaluation.corpus, "evaluation.corpus", recipe.phases[-1], number, offered)


def _place_of(
    corpus: str, key: str, phase: Phase, number: int, offered: Sequence[tuple[str, ExamplesInfo]]
) -> int:
    places = [place for place, (name, _) in enumerate(offered) if name == corpus]
    if not places:
        named = ", ".join(sorted({name for name, _ in offered if name})) or "no named corpus"
        raise UserError(
            f"{key} names {corpus}, and the features are of {named}: name its folder "
            f"(--features {corpus}=FOLDER)"
        )
    return places[features_of(phase, number, [offered[place][1] for place in places])]


def features_of(phase: Phase, number: int, infos: Sequence[ExamplesInfo]) -> int:
    """The place in `infos` of the examples that a phase takes.

    Args:
        phase: The phase.
        number: Its number, from 1.
        infos: What each of the features holds.

    Raises:
        UserError: none has the phase's length, or several have it.
    """
    wanted = phase.max_seq_length
    lengths = [info.max_seq_length for info in infos]
    if len(infos) == 1:
        if wanted and wanted < lengths[0] and infos[0].kind == packed.PACKED:
            raise UserError(
                f"phases.{number}.max_seq_length is {wanted}, and the examples are packed in windows of up "
                f"to {lengths[0]}: run `ehr-bert features --max-seq-length {wanted}` into another folder, "
                "and name both (--features A B)"
            )
        return 0
    places = [place for place, length in enumerate(lengths) if length == wanted]
    if len(places) != 1:
        raise UserError(
            f"phases.{number}.max_seq_length is {wanted or 'not stated'}, and the features have windows of "
            f"up to {', '.join(map(str, lengths))}: name one folder of the phase's length"
        )
    return places[0]


def _vocabulary(file: Path | None, labels: Sequence[str], infos: Sequence[ExamplesInfo]) -> Vocabulary | None:
    """The vocabulary that is named, or else the examples' own."""
    pairs = zip(labels, infos, strict=True)
    told = [(label, info.vocabulary) for label, info in pairs if info.vocabulary]
    if file:
        vocabulary = Vocabulary.read(file)
        for name, other in told:
            if other.sha256 != vocabulary.sha256:
                raise UserError(f"{file} is not the vocabulary that {name} was made with: take that one")
        return vocabulary
    if not told:
        return None
    first, vocabulary = told[0]
    for label, other in told:
        if other.sha256 != vocabulary.sha256:
            raise UserError(
                f"{first} and {label} were made with different vocabularies: make one of all (`ehr-bert "
                "vocabulary`), and the examples under it (`ehr-bert features --vocabulary`)"
            )
    return vocabulary


def _fitting(
    model: ModelConfig, file: Path | None, vocabulary: Vocabulary | None, infos: Sequence[ExamplesInfo]
) -> ModelConfig:
    """The model's shape with its `vocab_size`, once it is known to fit the examples."""
    if vocabulary and (file or model.vocab_size is None):
        model = dataclasses.replace(model, vocab_size=len(vocabulary))
    if model.vocab_size is None:
        raise UserError("the examples come without a vocabulary: name one (--vocab_file), or set vocab_size")
    if vocabulary and model.vocab_size < len(vocabulary):
        raise UserError(
            f"the model's vocab_size is {model.vocab_size}, the examples' vocabulary has {len(vocabulary)} "
            "tokens: leave vocab_size out, or set it to that or more"
        )
    max_id = max(info.max_id for info in infos)
    if max_id >= model.vocab_size:
        raise UserError(
            f"the examples hold ids up to {max_id}, and vocab_size is {model.vocab_size}: "
            "it must be larger, or the vocabulary is another's"
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
    """Refuses what the recipe asks of a phase's examples in vain."""
    most, phase = recipe.model.max_position_embeddings, recipe.phases[number - 1]
    if min(info.longest, phase.max_seq_length or info.longest) > most:
        raise UserError(
            f"the examples have up to {info.longest} tokens, over model.max_position_embeddings, which is "
            f"{most}: raise it, or state phases.{number}.max_seq_length"
        )
    masked, default = recipe.masked_codes, MaskedCodes()
    for key in ("probability", "mask_share", "random_share"):
        if info.kind != packed.PACKED and getattr(masked, key) != getattr(default, key):
            raise UserError(
                f"masked_codes.{key} is {getattr(masked, key)}, and the tutorial's examples were masked when "
                "they were written: leave it out, or make packed ones (`ehr-bert features`)"
            )
