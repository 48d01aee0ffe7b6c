"""TensorFlow 1 checkpoints of google-research/bert and Med-BERT, read and written.

Their names are Hugging Face's with slashes, as `bert/encoder/layer_0/attention/self/query/kernel`. Kernels
are [in, out] as in Keras; only `cls/seq_relationship/output_weights` is [out, in].
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig
from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary, read_types
from ehr_bert.weights.checkpoint_files import checkpoint_shapes, read_checkpoint, write_checkpoint
from ehr_bert.weights.names import parameter_names
from ehr_bert.weights.pretrained import Pretrained, shown
from ehr_bert.weights.tensorflow1_config import read_config

WORD_EMBEDDINGS = "bert/embeddings/word_embeddings"
"""A variable of every such checkpoint, and of no other."""

OPTIMIZER_SLOTS = (
    *("adam_m", "adam_v", "lamb_m", "lamb_v"),
    *("AdamWeightDecayOptimizer", "AdamWeightDecayOptimizer_1"),
)
"""The last part of the names under which optimizers keep their moments of a weight."""

GLOBAL_STEP = "global_step"

CONFIG_FILES = ("bert_config.json", "config.json")
VOCABULARY_FILES = ("*.types", "vocab.txt", VOCABULARY_TABLE)

OUTPUT_LEAVES = {"kernel": "output_weights", "bias": "output_bias"}
"""What the published programs call the weights that they make without a layer."""


def variable_names(num_hidden_layers: int) -> dict[str, str]:
    """The name of each Keras weight, below the model's own, to the name of its TensorFlow 1 variable."""
    names = {}
    for name, parameter in parameter_names(num_hidden_layers).items():
        leaf = name.rpartition("/")[2]
        scope = parameter.rpartition(".")[0].replace("layer.", "layer_").replace(".", "/")
        if leaf == "embeddings":
            names[name] = scope
        elif scope in ("cls/predictions", "cls/seq_relationship"):
            names[name] = f"{scope}/{OUTPUT_LEAVES[leaf]}"
        else:
            names[name] = f"{scope}/{leaf}"
    return names


def is_transposed_in_tensorflow1(variable: str) -> bool:
    """Whether a TensorFlow 1 variable is the transpose of the Keras weight."""
    return variable == "cls/seq_relationship/output_weights"


def is_tensorflow1(checkpoint: Path) -> bool:
    """Whether there is a checkpoint of that prefix, and one of the published programs wrote it."""
    return Path(f"{checkpoint}.index").exists() and WORD_EMBEDDINGS in checkpoint_shapes(checkpoint)


def pretrained_tensorflow1(
    checkpoint: Path, config_file: Path | None = None, vocabulary_file: Path | None = None
) -> Pretrained:
    """A model of the published programs.

    Args:
        checkpoint: The prefix, `folder/model.ckpt-<step>`.
        config_file: Its `bert_config.json`; the one beside the checkpoint if none is named.
        vocabulary_file: `.types`, `vocab.txt` or `vocabulary.tsv`; the one beside the checkpoint, if there is
            one, if none is named.

    Raises:
        UserError: a file is missing, or doesn't fit.
    """
    config_file = config_file or _beside(checkpoint, CONFIG_FILES)
    if config_file is None:
        raise UserError(
            f"no {' or '.join(CONFIG_FILES)} lies beside {checkpoint}: name it (--bert_config_file)"
        )
    vocabulary_file = vocabulary_file or _beside(checkpoint, VOCABULARY_FILES)
    vocabulary = Vocabulary.read(vocabulary_file) if vocabulary_file else None
    ids = (read_types(vocabulary_file) or vocabulary.ids) if vocabulary_file and vocabulary else None
    config, conventions = read_config(config_file, checkpoint, ids)
    return Pretrained(
        config=config,
        weights=read_tensorflow1(checkpoint, config),
        source=checkpoint,
        vocabulary=vocabulary,
        mask_id=conventions.mask_id,
        cls_id=conventions.cls_id,
    )


def _beside(checkpoint: Path, names: Iterable[str]) -> Path | None:
    """The first of the named files, which may be globs, in the checkpoint's folder.

    Raises:
        UserError: a glob finds several.
    """
    for name in names:
        found = sorted(checkpoint.parent.glob(name))
        if len(found) > 1:
            raise UserError(
                f"{found[0]} and {found[1].name} lie beside {checkpoint.name}: name the one (--vocab_file)"
            )
        if found:
            return found[0]
    return None


def read_tensorflow1(checkpoint: Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """The weights of a checkpoint of the published programs, float32, under the names of our model.

    An optimizer's moments and the step are passed over.

    Args:
        checkpoint: The prefix.
        config: The model's shape.

    Raises:
        UserError: a weight is missing or left over, or has another shape than the config says.
    """
    names = variable_names(config.num_hidden_layers)
    variables = set(names.values())
    found = checkpoint_shapes(checkpoint)
    if lacking := sorted(variables - found.keys()):
        raise UserError(
            f"{checkpoint} lacks {shown(lacking)}: "
            "name a checkpoint of pretraining and the config it was trained with"
        )
    if odd := sorted(name for name in found.keys() - variables if not _is_of_training(name, variables)):
        raise UserError(
            f"{checkpoint} holds {shown(odd)}, which a pretrained model of this config has not: "
            "name a checkpoint of pretraining and the config it was trained with"
        )
    values = read_checkpoint(checkpoint, variables.__contains__)
    weights = {name: _turned(variable, values[variable]) for name, variable in names.items()}
    for name, shape in _shapes(config).items():
        if weights[name].shape != shape:
            wanted = list(shape[::-1] if is_transposed_in_tensorflow1(names[name]) else shape)
            raise UserError(
                f"{names[name]} in {checkpoint} is {found[names[name]]}, by the config it is {wanted}: "
                "name the config it was trained with"
            )
    return weights


def write_tensorflow1(checkpoint: Path, weights: Mapping[str, np.ndarray], config: ModelConfig) -> None:
    """Writes a checkpoint that the published programs read.

    Args:
        checkpoint: The prefix.
        weights: All of a model's, under the names of our model.
        config: The model's shape.
    """
    names = variable_names(config.num_hidden_layers)
    write_checkpoint(
        checkpoint, {variable: _turned(variable, weights[name]) for name, variable in names.items()}
    )


def _is_of_training(name: str, variables: Collection[str]) -> bool:
    """Whether a name is the step's, or of an optimizer's moment of one of `variables`."""
    weight, _, slot = name.rpartition("/")
    return name == GLOBAL_STEP or (slot in OPTIMIZER_SLOTS and weight in variables)


def _turned(variable: str, value: np.ndarray) -> np.ndarray:
    """A TensorFlow 1 variable's value as Keras lays it out, or the other way."""
    return np.ascontiguousarray(value.T if is_transposed_in_tensorflow1(variable) else value, np.float32)


def _shapes(config: ModelConfig) -> dict[str, tuple[int | None, ...]]:
    """The shape of each Keras weight."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int | None, ...]] = {
        "embeddings/tokens/embeddings": (config.vocab_size, hidden),
        "embeddings/positions/embeddings": (config.max_position_embeddings, hidden),
        "embeddings/visits/embeddings": (config.type_vocab_size, hidden),
        "inner/kernel": (hidden, inner),
        "inner/bias": (inner,),
        "outer/kernel": (inner, hidden),
        "masked_codes/bias": (config.vocab_size,),
        "relationship/kernel": (hidden, 2),
        "relationship/bias": (2,),
        "kernel": (hidden, hidden),
    }
    return {
        name: next((shape for end, shape in shapes.items() if name.endswith(end)), (hidden,))
        for name in parameter_names(config.num_hidden_layers)
    }
