from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import CodeCount, Vocabulary
from ehr_bert.weights.matching import (
    NEW,
    OUTPUT_BIAS,
    TOKEN_EMBEDDINGS,
    fitted_weights,
    match_rows,
    same_rows,
)
from ehr_bert.weights.pretrained import Pretrained
from tests.user_errors import raises_user_error

WIDTH, POSITIONS, VISITS = 3, 7, 5
POSITION_TABLE, VISIT_TABLE = (
    "encoder/embeddings/positions/embeddings",
    "encoder/embeddings/visits/embeddings",
)
FIVE = len(SpecialToken)


def config_of(rows: int, **changes) -> ModelConfig:
    shape = {
        "vocab_size": rows,
        "hidden_size": WIDTH,
        "num_attention_heads": 1,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": VISITS,
    }
    return ModelConfig(**shape | changes)


def vocabulary_of(*codes: str) -> Vocabulary:
    """Return a vocabulary of the codes in this order, after the special tokens."""
    return Vocabulary.from_counts(CodeCount(code, 99 - place, 1) for place, code in enumerate(codes))


def random_weights(rows: int, seed: int = 0, positions: int = POSITIONS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        TOKEN_EMBEDDINGS: (rows, WIDTH),
        OUTPUT_BIAS: (rows,),
        POSITION_TABLE: (positions, WIDTH),
        VISIT_TABLE: (VISITS, WIDTH),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def parent_of(*codes: str, rows: int | None = None, **known) -> Pretrained:
    vocabulary = vocabulary_of(*codes) if codes else None
    size = rows or FIVE + len(codes)
    return Pretrained(config_of(size), random_weights(size), Path("parent"), vocabulary, **known)


def initialised(
    parent: Pretrained,
    vocabulary: Vocabulary | None,
    new_codes: str = "category",
    size: int | None = None,
    **ids,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the weights of a model after initialisation from `parent`, and before."""
    size = size or len(vocabulary)
    own = random_weights(size, seed=1)
    matching = match_rows(parent, vocabulary, size, ids.get("mask_id"), ids.get("cls_id"))
    return fitted_weights(parent, config_of(size), matching, new_codes, own), own


def test_rows_are_matched_by_token_and_unchanged():
    parent = parent_of("A", "B", "C")
    child, _ = initialised(parent, vocabulary_of("C", "A", "B"))
    for name in (TOKEN_EMBEDDINGS, OUTPUT_BIAS):
        expected = parent.weights[name][[*range(FIVE), FIVE + 2, FIVE, FIVE + 1]]
        np.testing.assert_array_equal(child[name], expected)
        assert child[name].dtype == np.float32
    np.testing.assert_array_equal(child[POSITION_TABLE], parent.weights[POSITION_TABLE])


OLD = (
    "ICD9_250.00",
    "ICD9_250.01",
    "ICD9_250.13",
    "ICD9_251.1",
    "ICD10_E11.9",
    "AGE_20",
    "AGE_30",
    "SNOMED_1",
)


@pytest.mark.parametrize(
    ("new", "relatives"),
    [
        ("ICD9_250.02", ("ICD9_250.00", "ICD9_250.01")),  # below 250.0
        ("ICD9_250.0", ("ICD9_250.00", "ICD9_250.01")),
        ("ICD9_250.9", ("ICD9_250.00", "ICD9_250.01", "ICD9_250.13")),
        ("ICD9_250", ("ICD9_250.00", "ICD9_250.01", "ICD9_250.13")),
        ("ICD10_E11.621", ("ICD10_E11.9",)),
        ("AGE_40", ("AGE_20", "AGE_30")),
        ("ICD9_401.9", tuple(code for code in OLD if not code.startswith("AGE"))),
        ("SNOMED_12", tuple(code for code in OLD if not code.startswith("AGE"))),
    ],
)
def test_a_new_code_starts_from_the_mean_of_its_nearest_heading(new, relatives):
    parent = parent_of(*OLD)
    vocabulary = vocabulary_of(new, *OLD)
    child, own = initialised(parent, vocabulary)
    rows = [parent.vocabulary.ids[code] for code in relatives]
    for name in (TOKEN_EMBEDDINGS, OUTPUT_BIAS):
        expected = parent.weights[name][rows].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(child[name][vocabulary.ids[new]], expected, rtol=1e-6)
    everything = [parent.vocabulary.ids[code] for code in OLD if not code.startswith("AGE")]
    mean, _ = initialised(parent, vocabulary, "mean")
    expected = parent.weights[TOKEN_EMBEDDINGS][everything].mean(axis=0)
    np.testing.assert_allclose(mean[TOKEN_EMBEDDINGS][vocabulary.ids[new]], expected, rtol=1e-5)
    random, _ = initialised(parent, vocabulary, "random")
    np.testing.assert_array_equal(
        random[TOKEN_EMBEDDINGS][vocabulary.ids[new]], own[TOKEN_EMBEDDINGS][vocabulary.ids[new]]
    )


codes = st.lists(
    st.from_regex(r"ICD9_[0-2][0-2][0-2](\.[0-1]{1,2})?|SNOMED_[0-9]", fullmatch=True),
    min_size=1,
    max_size=12,
    unique=True,
)


def reference(code: str, table: dict[str, np.ndarray]) -> np.ndarray:
    """Return the mean row of the codes that share the longest prefix with `code`, at least its category."""
    digits = code.replace(".", "")
    shortest = len("ICD9_000") if code.startswith("ICD9_") else len(digits) + 1
    for length in range(len(digits), shortest - 1, -1):
        alike = [row for other, row in table.items() if other.replace(".", "").startswith(digits[:length])]
        if alike:
            return np.mean(alike, axis=0)
    return np.mean(list(table.values()), axis=0)


@given(codes, codes, st.integers(0, 3))
def test_rows_of_any_two_vocabularies_are_copies_or_means_of_the_nearest_heading(old, new, unused):
    parent, vocabulary = parent_of(*old), vocabulary_of(*new)
    child, _ = initialised(parent, vocabulary, size=len(vocabulary) + unused)
    table = {code: parent.weights[TOKEN_EMBEDDINGS][parent.vocabulary.ids[code]] for code in old}
    for code in new:
        row = child[TOKEN_EMBEDDINGS][vocabulary.ids[code]]
        if code in table:
            np.testing.assert_array_equal(row, table[code])
        else:
            np.testing.assert_allclose(row, reference(code, table), rtol=1e-4, atol=1e-5)


def test_the_rows_of_mask_and_cls_are_matched_by_role():
    parent = parent_of("A", "B", mask_id=0, cls_id=3)
    vocabulary = vocabulary_of("B", "A")
    mask, cls = vocabulary.id_of(SpecialToken.MASK), vocabulary.id_of(SpecialToken.CLS)
    child, _ = initialised(parent, vocabulary, mask_id=mask, cls_id=cls)
    np.testing.assert_array_equal(child[TOKEN_EMBEDDINGS][mask], parent.weights[TOKEN_EMBEDDINGS][0])
    np.testing.assert_array_equal(child[TOKEN_EMBEDDINGS][cls], parent.weights[TOKEN_EMBEDDINGS][3])
    np.testing.assert_array_equal(child[OUTPUT_BIAS][mask], parent.weights[OUTPUT_BIAS][0])


def test_new_and_dropped_codes_are_listed():
    matching = match_rows(parent_of("A", "B", "C"), vocabulary_of("B", "D", "E"), FIVE + 3, None, None)
    assert matching.new == ("D", "E")
    assert matching.dropped == 2
    assert matching.rows.tolist() == [*range(FIVE), FIVE + 1, NEW, NEW]


def test_without_both_vocabularies_rows_are_matched_by_id():
    parent = parent_of(rows=9)
    child, _ = initialised(parent, vocabulary_of("A", "B"))
    np.testing.assert_array_equal(child[TOKEN_EMBEDDINGS], parent.weights[TOKEN_EMBEDDINGS][: FIVE + 2])
    named = parent_of("A", "B")
    child, _ = initialised(named, None, size=6)
    np.testing.assert_array_equal(child[OUTPUT_BIAS], named.weights[OUTPUT_BIAS][:6])
    with raises_user_error("missing-vocabulary", 9, 10):
        initialised(parent, vocabulary_of(*"ABCDE"))


def test_unused_rows_are_kept():
    parent = parent_of("A", "B", rows=FIVE + 4)
    child, _ = initialised(parent, vocabulary_of("A", "B"), size=FIVE + 4)
    np.testing.assert_array_equal(child[TOKEN_EMBEDDINGS], parent.weights[TOKEN_EMBEDDINGS])
    # An export names them.
    named = vocabulary_of("A", "B", f"[unused{FIVE + 2}]", f"[unused{FIVE + 3}]")
    parent = Pretrained(parent.config, parent.weights, parent.source, named)
    assert same_rows(parent, vocabulary_of("A", "B"))
    child, _ = initialised(parent, vocabulary_of("A", "B"), size=FIVE + 4)
    np.testing.assert_array_equal(child[TOKEN_EMBEDDINGS], parent.weights[TOKEN_EMBEDDINGS])


def test_rows_are_the_same_unless_a_change_is_known():
    assert same_rows(parent_of("A", "B"), vocabulary_of("A", "B"))
    assert not same_rows(parent_of("A", "B"), vocabulary_of("B", "A"))
    assert not same_rows(parent_of("A", "B"), vocabulary_of("A"))
    assert not same_rows(parent_of("A"), vocabulary_of("A", "B"))
    assert same_rows(parent_of(rows=9), vocabulary_of("A", "B"))
    assert not same_rows(parent_of(rows=6), vocabulary_of("A", "B"))
    assert same_rows(parent_of("A"), None)


def test_a_smaller_model_takes_the_first_positions_and_visits():
    parent = parent_of("A")
    config = config_of(FIVE + 1, max_position_embeddings=4, type_vocab_size=2)
    own = random_weights(FIVE + 1, positions=4) | {VISIT_TABLE: np.zeros((2, WIDTH), np.float32)}
    matching = match_rows(parent, parent.vocabulary, FIVE + 1, None, None)
    child = fitted_weights(parent, config, matching, "mean", own)
    np.testing.assert_array_equal(child[POSITION_TABLE], parent.weights[POSITION_TABLE][:4])
    np.testing.assert_array_equal(child[VISIT_TABLE], parent.weights[VISIT_TABLE][:2])


@pytest.mark.parametrize(
    ("changes", "mentioned"),
    [
        ({"max_position_embeddings": 8}, ["max_position_embeddings 7 instead of 8"]),
        ({"type_vocab_size": 6, "hidden_act": "relu"}, ["hidden_act gelu", "relu", "type_vocab_size 5"]),
        ({"hidden_size": 6}, ["hidden_size 3 instead of 6"]),
    ],
)
def test_a_larger_or_different_shape_is_refused(changes, mentioned):
    parent = parent_of("A")
    matching = match_rows(parent, parent.vocabulary, FIVE + 1, None, None)
    with raises_user_error("shape-mismatch", *mentioned):
        fitted_weights(parent, config_of(FIVE + 1, **changes), matching, "mean", {})


def test_weights_that_do_not_fit_their_config_are_refused():
    parent = parent_of("A")
    parent.weights[POSITION_TABLE] = parent.weights[POSITION_TABLE][:3]
    with raises_user_error("shape-mismatch", "positions/embeddings", "[3, 3]", "[7, 3]"):
        initialised(parent, parent.vocabulary)


def test_missing_weights_of_the_parent_are_left_out():
    parent = parent_of("A")
    del parent.weights[OUTPUT_BIAS]
    child, _ = initialised(parent, parent.vocabulary)
    assert OUTPUT_BIAS not in child


def test_the_fingerprint_depends_on_names_shapes_and_values():
    one = parent_of("A")
    assert one.sha256 == Pretrained(one.config, dict(reversed(one.weights.items())), Path("other")).sha256
    other = {name: value.copy() for name, value in one.weights.items()}
    other[TOKEN_EMBEDDINGS][0, 0] += 1
    assert one.sha256 != Pretrained(one.config, other, Path("parent")).sha256
