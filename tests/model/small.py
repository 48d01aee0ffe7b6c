"""A small model and odd batches, so that a transposed axis can't hide."""

import numpy as np

from ehr_bert.examples.layout import Layout
from ehr_bert.model.config import ModelConfig
from ehr_bert.model.pretraining import BatchTensors

VOCABULARY = 29

SMALL = ModelConfig(
    vocab_size=VOCABULARY,
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=5,
    max_position_embeddings=11,
    type_vocab_size=6,
)

LAYOUT = Layout(windows=((5, 7), (3, 11)), masked=23, patients=19)


def random_batch(seed: int = 0, layout: Layout = LAYOUT) -> BatchTensors:
    """Patients of 2 to 7 tokens, `[CLS]` (2) and codes in visits, in windows; the last window is empty."""
    rng = np.random.default_rng(seed)
    flat = {name: np.zeros(layout.positions, "int32") for name in ("token_ids", "visit_ids", "position_ids")}
    patient_ids = np.zeros(layout.positions, "int32")
    first, codes = [], []
    start = 0
    for length in [length for count, length in layout.windows for _ in range(count)][:-1]:
        at, number = start, 0
        while (room := start + length - at) > 1 and len(first) < layout.patients:
            tokens = min(int(rng.integers(2, 8)), room)
            number += 1
            span = slice(at, at + tokens)
            flat["token_ids"][span] = [2, *rng.integers(5, VOCABULARY, tokens - 1)]
            flat["visit_ids"][span] = [0, *np.sort(rng.integers(1, 6, tokens - 1))]
            flat["position_ids"][span] = np.arange(tokens)
            patient_ids[span] = number
            first.append(at)
            codes.extend(range(at + 1, at + tokens))
            at += tokens
        start += length
    masked = np.sort(rng.choice(codes, min(layout.masked - 2, len(codes)), replace=False))

    def filled(values: np.ndarray | list[int], size: int) -> np.ndarray:
        return np.pad(np.asarray(values), (0, size - len(values)))

    masked_weights = filled(np.ones(len(masked)), layout.masked).astype("float32")
    patient_weights = filled(np.ones(len(first)), layout.patients).astype("float32")
    return {
        **flat,
        "patient_ids": patient_ids,
        "dropout_keys": rng.integers(-(2**31), 2**31, layout.positions).astype("int32"),
        "masked_places": filled(masked, layout.masked).astype("int32"),
        "masked_ids": (masked_weights * rng.integers(5, VOCABULARY, layout.masked)).astype("int32"),
        "masked_weights": masked_weights,
        "patient_places": filled(first, layout.patients).astype("int32"),
        "stay_labels": (patient_weights * rng.integers(0, 2, layout.patients)).astype("int32"),
        "patient_weights": patient_weights,
        "masked_total": masked_weights.sum(),
        "patient_total": patient_weights.sum(),
    }


def alone(batch: BatchTensors, length: int = 8) -> tuple[BatchTensors, Layout]:
    """The same patients, each in a separate window."""
    first = batch["patient_places"][batch["patient_weights"] > 0]
    moved = np.zeros(len(batch["token_ids"]), "int32")
    names = ("token_ids", "visit_ids", "position_ids", "patient_ids", "dropout_keys")
    flat = {name: np.zeros(len(first) * length, "int32") for name in names}
    for window, start in enumerate(first):
        end = start + 1
        while end < len(moved) and batch["patient_ids"][end] and batch["position_ids"][end]:
            end += 1
        moved[start:end] = np.arange(window * length, window * length + end - start)
        for name in names:
            flat[name][moved[start:end]] = batch[name][start:end]
    places = {name: moved[batch[name]] for name in ("masked_places", "patient_places")}
    layout = Layout(((len(first), length),), len(batch["masked_ids"]), len(batch["stay_labels"]))
    return {**batch, **flat, **places}, layout
