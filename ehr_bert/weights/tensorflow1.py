"""TensorFlow 1 checkpoints of google-research/bert and Med-BERT.

Their names are those of Hugging Face with slashes, such as
`bert/encoder/layer_0/attention/self/query/kernel`. Kernels are `[in, out]` as in Keras. Only
`cls/seq_relationship/output_weights` is `[out, in]`.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig
from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary, read_types
from ehr_bert.weights.checkpoint_files import checkpoint_shapes, read_checkpoint, write_checkpoint
from ehr_bert.weights.names import parameter_names
from ehr_bert.weights.pretrained import Pretrained, list_names
from ehr_bert.weights.tensorflow1_config import read_config

WORD_EMBEDDINGS = "bert/embeddings/word_embeddings"
"""A variable that identifies such a checkpoint."""

OPTIMIZER_SLOTS = (
    *("adam_m", "adam_v", "lamb_m", "lamb_v"),
    *("AdamWeightDecayOptimizer", "AdamWeightDecayOptimizer_1"),
)
"""Last part of the names of the moments of a weight, by optimizer."""

GLOBAL_STEP = "global_step"

CONFIG_FILES = ("bert_config.json", "config.json")
VOCABULARY_FILES = ("*.types", "vocab.txt", VOCABULARY_TABLE)

OUTPUT_LEAVES = {"kernel": "output_weights", "bias": "output_bias"}
"""Names of the weights that the published programs create without a layer."""


def variable_names(num_hidden_layers: int) -> dict[str, str]:
    """Map the name of each Keras weight, without the name of the model, to its TensorFlow 1 variable."""
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
    """Return whether a TensorFlow 1 variable is the transpose of the Keras weight."""
    return variable == "cls/seq_relationship/output_weights"


def is_tensorflow1(checkpoint: Path) -> bool:
    """Return whether the prefix names a checkpoint of the published programs."""
    return Path(f"{checkpoint}.index").exists() and WORD_EMBEDDINGS in checkpoint_shapes(checkpoint)


def pretrained_tensorflow1(
    checkpoint: Path, config_file: Path | None = None, vocabulary_file: Path | None = None
) -> Pretrained:
    """Read a model of the published programs.

    Args:
        checkpoint: Prefix, `folder/model.ckpt-<step>`.
        config_file: `bert_config.json`. If None, the one next to the checkpoint.
        vocabulary_file: `.types`, `vocab.txt` or `vocabulary.tsv`. If None, the one next to the checkpoint,
            if there is one.

    Raises:
        UserError: A file is missing (key `missing-config`), several vocabularies are possible
            (`ambiguous-vocabulary`), or the files do not fit together (`config-mismatch`).
    """
    config_file = config_file or _find_next_to(checkpoint, CONFIG_FILES)
    if config_file is None:
        raise UserError(
            "missing-config",
            f"there is no {' or '.join(CONFIG_FILES)} next to {checkpoint}. Name it (--bert_config_file).",
        )
    vocabulary_file = vocabulary_file or _find_next_to(checkpoint, VOCABULARY_FILES)
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


def _find_next_to(checkpoint: Path, names: Iterable[str]) -> Path | None:
    """Return the first of the named files, which may be globs, in the folder of the checkpoint.

    Raises:
        UserError: A glob matches several files (key `ambiguous-vocabulary`).
    """
    for name in names:
        files = sorted(checkpoint.parent.glob(name))
        if len(files) > 1:
            raise UserError(
                "ambiguous-vocabulary",
                f"both {files[0]} and {files[1].name} are next to {checkpoint.name}. Name one of them "
                "(--vocab_file).",
            )
        if files:
            return files[0]
    return None


def read_tensorflow1(checkpoint: Path, config: ModelConfig) -> dict[str, np.ndarray]:
    """Return the weights of a checkpoint of the published programs, in float32, by their Keras names.

    The moments of an optimizer and the step are ignored.

    Args:
        checkpoint: Prefix.
        config: Shape of the model.

    Raises:
        UserError: A weight is missing, unexpected, or has another shape than in the config (key
            `config-mismatch`).
    """
    names = variable_names(config.num_hidden_layers)
    variables = set(names.values())
    shapes = checkpoint_shapes(checkpoint)
    if missing := sorted(variables - shapes.keys()):
        raise UserError(
            "config-mismatch",
            f"{list_names(missing)} is missing from {checkpoint}. Name a checkpoint of pretraining and the "
            "config that it was trained with.",
        )
    unexpected = sorted(name for name in shapes.keys() - variables if not _is_training_state(name, variables))
    if unexpected:
        raise UserError(
            "config-mismatch",
            f"{checkpoint} has {list_names(unexpected)}, which a pretrained model with this config does not "
            "have. Name a checkpoint of pretraining and the config that it was trained with.",
        )
    values = read_checkpoint(checkpoint, variables.__contains__)
    weights = {name: _transposed(variable, values[variable]) for name, variable in names.items()}
    for name, shape in _shapes(config).items():
        if weights[name].shape != shape:
            expected = list(shape[::-1] if is_transposed_in_tensorflow1(names[name]) else shape)
            raise UserError(
                "config-mismatch",
                f"{names[name]} in {checkpoint} has shape {shapes[names[name]]}, but {expected} with the "
                "config. Name the config that it was trained with.",
            )
    return weights


def write_tensorflow1(checkpoint: Path, weights: Mapping[str, np.ndarray], config: ModelConfig) -> None:
    """Write a checkpoint that the published programs read.

    Args:
        checkpoint: Prefix.
        weights: All weights of a model, by their Keras names.
        config: Shape of the model.
    """
    names = variable_names(config.num_hidden_layers)
    write_checkpoint(
        checkpoint, {variable: _transposed(variable, weights[name]) for name, variable in names.items()}
    )


def _is_training_state(name: str, variables: Collection[str]) -> bool:
    """Return whether a name is the step, or a moment of one of `variables`."""
    weight, _, slot = name.rpartition("/")
    return name == GLOBAL_STEP or (slot in OPTIMIZER_SLOTS and weight in variables)


def _transposed(variable: str, value: np.ndarray) -> np.ndarray:
    """Convert the value of a TensorFlow 1 variable to Keras layout, or back."""
    return np.ascontiguousarray(value.T if is_transposed_in_tensorflow1(variable) else value, np.float32)


def _shapes(config: ModelConfig) -> dict[str, tuple[int | None, ...]]:
    """Return the shape of each Keras weight."""
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
