"""Reimplementation of the published programs: checkpoints by TensorFlow 1's saver, the model in NumPy."""

import json
import math
import pickle
from pathlib import Path

import numpy as np
import tensorflow as tf

MED_BERT = {
    "vocab_size": 31,
    "hidden_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 64,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 13,
    "type_vocab_size": 10,
    "initializer_range": 0.02,
}
"""Med-BERT's config, with fewer layers, codes, positions and visits."""

GOOGLE = {
    **MED_BERT,
    "hidden_size": 15,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "intermediate_size": 60,
    "type_vocab_size": 2,
    "directionality": "bidi",
    "pooler_type": "first_token_transform",
}
"""A config of later google-research/bert releases, with keys that no program reads."""

CODES = [f"ICD9_{100 + number}.{number % 10}" for number in range(30)]
TYPES = {"empty_pad": 0, **{code: number for number, code in enumerate(CODES, 1)}}
TOKENS = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CODES[:25]]


def shapes(config):
    """Return the shape of every weight of the published programs, by name."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    weight_shapes = {
        "bert/embeddings/word_embeddings": (config["vocab_size"], hidden),
        "bert/embeddings/token_type_embeddings": (config["type_vocab_size"], hidden),
        "bert/embeddings/position_embeddings": (config["max_position_embeddings"], hidden),
        "bert/embeddings/LayerNorm/beta": (hidden,),
        "bert/embeddings/LayerNorm/gamma": (hidden,),
        "bert/pooler/dense/kernel": (hidden, hidden),
        "bert/pooler/dense/bias": (hidden,),
        "cls/predictions/transform/dense/kernel": (hidden, hidden),
        "cls/predictions/transform/dense/bias": (hidden,),
        "cls/predictions/transform/LayerNorm/beta": (hidden,),
        "cls/predictions/transform/LayerNorm/gamma": (hidden,),
        "cls/predictions/output_bias": (config["vocab_size"],),
        "cls/seq_relationship/output_weights": (2, hidden),
        "cls/seq_relationship/output_bias": (2,),
    }
    for layer in range(config["num_hidden_layers"]):
        scope = f"bert/encoder/layer_{layer}"
        for part in ("attention/self/query", "attention/self/key", "attention/self/value"):
            weight_shapes |= {f"{scope}/{part}/kernel": (hidden, hidden), f"{scope}/{part}/bias": (hidden,)}
        for part, inputs, outputs in (
            ("attention/output/dense", hidden, hidden),
            ("intermediate/dense", hidden, inner),
            ("output/dense", inner, hidden),
        ):
            weight_shapes |= {f"{scope}/{part}/kernel": (inputs, outputs), f"{scope}/{part}/bias": (outputs,)}
        for part in ("attention/output/LayerNorm", "output/LayerNorm"):
            weight_shapes |= {f"{scope}/{part}/beta": (hidden,), f"{scope}/{part}/gamma": (hidden,)}
    return weight_shapes


def random_weights(config, seed=3):
    """Return distinct random weights, large enough that every part of the model matters."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes(config).items():
        scale = 1.5 / math.sqrt(shape[0]) if name.endswith("kernel") else 0.3
        weights[name] = rng.normal(name.endswith("gamma"), scale, shape).astype(np.float32)
    return weights


def save(folder, weights, config, slots=True, compute=None):
    """Save weights as the published programs do, with Adam's moments and the step, and return the prefix.

    Args:
        folder: Output folder for the checkpoint and its config.
        weights: Weights by name.
        config: Config.
        slots: Whether to save moments and the step.
        compute: Adds operations to the graph. If None, the graph is not saved.
    """
    folder.mkdir(exist_ok=True)
    (folder / "bert_config.json").write_text(json.dumps(config))
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        values = dict(weights)
        if slots:
            values |= {
                f"{name}/{slot}": value * 0.1
                for name, value in weights.items()
                for slot in ("adam_m", "adam_v")
            }
        feeds = {}
        for name, value in values.items():
            feed = v1.placeholder(value.dtype, value.shape)
            feeds[feed] = value
            v1.get_variable(name, initializer=feed, use_resource=False)
        if slots:
            v1.train.create_global_step()
        if compute:
            compute()
        session.run(v1.global_variables_initializer(), feeds)
        saver = v1.train.Saver()
        return Path(saver.save(session, str(folder / "model.ckpt"), 7, write_meta_graph=compute is not None))


def med_bert(folder, weights, config=None):
    """Write a Med-BERT checkpoint with its config and `.types`, and return the prefix."""
    prefix = save(folder, weights, config or MED_BERT)
    (folder / "cohort.types").write_bytes(pickle.dumps(TYPES, protocol=2))
    return prefix


def google(folder, weights, config=None):
    """Write a google-research/bert checkpoint with its config and `vocab.txt`, and return the prefix."""
    prefix = save(folder, weights, config or GOOGLE)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    return prefix


def tanh_gelu(x):
    return 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))


def erf_gelu(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x / np.sqrt(2.0)))


class Forward:
    """The published model in float64, for one patient at a time."""

    def __init__(self, weights, config, gelu=tanh_gelu, epsilon=1e-12):
        self.weights = {name: value.astype(np.float64) for name, value in weights.items()}
        self.heads, self.layers = config["num_attention_heads"], config["num_hidden_layers"]
        self.gelu, self.epsilon = gelu, epsilon

    def dense(self, x, scope):
        return x @ self.weights[f"{scope}/kernel"] + self.weights[f"{scope}/bias"]

    def norm(self, x, scope):
        scope = f"{scope}/LayerNorm"
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        scaled = centred / np.sqrt(variance + self.epsilon)
        return scaled * self.weights[f"{scope}/gamma"] + self.weights[f"{scope}/beta"]

    def sequence(self, ids, visits):
        """Return the last hidden states `[T, H]` of one patient."""
        tables = "bert/embeddings/"
        x = (
            self.weights[f"{tables}word_embeddings"][ids]
            + self.weights[f"{tables}token_type_embeddings"][visits]
        )
        x = self.norm(x + self.weights[f"{tables}position_embeddings"][: len(ids)], "bert/embeddings")
        for layer in range(self.layers):
            scope = f"bert/encoder/layer_{layer}"
            query, key, value = (
                self.dense(x, f"{scope}/attention/self/{part}") for part in ("query", "key", "value")
            )
            outputs = []
            for columns in np.split(np.arange(x.shape[1]), self.heads):
                scores = query[:, columns] @ key[:, columns].T / np.sqrt(len(columns))
                powers = np.exp(scores - scores.max(-1, keepdims=True))
                outputs.append(powers / powers.sum(-1, keepdims=True) @ value[:, columns])
            attended = self.dense(np.concatenate(outputs, -1), f"{scope}/attention/output/dense")
            x = self.norm(x + attended, f"{scope}/attention/output")
            inner = self.gelu(self.dense(x, f"{scope}/intermediate/dense"))
            x = self.norm(x + self.dense(inner, f"{scope}/output/dense"), f"{scope}/output")
        return x

    def masked_lm_logits(self, hidden):
        transformed = self.gelu(self.dense(hidden, "cls/predictions/transform/dense"))
        normed = self.norm(transformed, "cls/predictions/transform")
        table = self.weights["bert/embeddings/word_embeddings"]
        return normed @ table.T + self.weights["cls/predictions/output_bias"]

    def stay_logits(self, hidden, pooling="first"):
        """Return the logits of one patient, by BERT's pooler at position 0 or by the sum over positions."""
        pooled = hidden.sum(0) if pooling == "sum" else np.tanh(self.dense(hidden[0], "bert/pooler/dense"))
        head = "cls/seq_relationship/output_"
        return self.weights[f"{head}weights"] @ pooled + self.weights[f"{head}bias"]
