from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.errors import UserError
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import CodeCount, Vocabulary
from ehr_bert.weights.matching import NEW, OUTPUT_BIAS, TOKENS, fitted_weights, match_rows, same_rows
from ehr_bert.weights.pretrained import Pretrained

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
    """The codes in this order, after the special tokens."""
    return Vocabulary.from_counts(CodeCount(code, 99 - place, 1) for place, code in enumerate(codes))


def random_weights(rows: int, seed: int = 0, positions: int = POSITIONS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {
        TOKENS: (rows, WIDTH),
        OUTPUT_BIAS: (rows,),
        POSITION_TABLE: (positions, WIDTH),
        VISIT_TABLE: (VISITS, WIDTH),
    }
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def parent_of(*codes: str, rows: int | None = None, **known) -> Pretrained:
    vocabulary = vocabulary_of(*codes) if codes else None
    size = rows or FIVE + len(codes)
    return Pretrained(config_of(size), random_weights(size), Path("parent"), vocabulary, **known)


def begun(
    parent: Pretrained,
    vocabulary: Vocabulary | None,
    new_codes: str = "category",
    size: int | None = None,
    **ids,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A model's weights after it began with `parent`, and those before."""
    size = size or len(vocabulary)
    own = random_weights(size, seed=1)
    matching = match_rows(parent, vocabulary, size, ids.get("mask_id"), ids.get("cls_id"))
    return fitted_weights(parent, config_of(size), matching, new_codes, own), own


def test_rows_go_by_token_and_stay_bit_for_bit():
    parent = parent_of("A", "B", "C")
    child, _ = begun(parent, vocabulary_of("C", "A", "B"))
    for name in (TOKENS, OUTPUT_BIAS):
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
def test_a_new_code_begins_as_the_mean_of_its_nearest_relatives(new, relatives):
    parent = parent_of(*OLD)
    vocabulary = vocabulary_of(new, *OLD)
    child, own = begun(parent, vocabulary)
    rows = [parent.vocabulary.ids[code] for code in relatives]
    for name in (TOKENS, OUTPUT_BIAS):
        expected = parent.weights[name][rows].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(child[name][vocabulary.ids[new]], expected, rtol=1e-6)
    everything = [parent.vocabulary.ids[code] for code in OLD if not code.startswith("AGE")]
    mean, _ = begun(parent, vocabulary, "mean")
    expected = parent.weights[TOKENS][everything].mean(axis=0)
    np.testing.assert_allclose(mean[TOKENS][vocabulary.ids[new]], expected, rtol=1e-5)
    random, _ = begun(parent, vocabulary, "random")
    np.testing.assert_array_equal(random[TOKENS][vocabulary.ids[new]], own[TOKENS][vocabulary.ids[new]])


codes = st.lists(
    st.from_regex(r"ICD9_[0-2][0-2][0-2](\.[0-1]{1,2})?|SNOMED_[0-9]", fullmatch=True),
    min_size=1,
    max_size=12,
    unique=True,
)


def reference(code: str, table: dict[str, np.ndarray]) -> np.ndarray:
    """The mean row of the codes that share the longest beginning, down to the category, with `code`."""
    digits = code.replace(".", "")
    shortest = len("ICD9_000") if code.startswith("ICD9_") else len(digits) + 1
    for length in range(len(digits), shortest - 1, -1):
        alike = [row for other, row in table.items() if other.replace(".", "").startswith(digits[:length])]
        if alike:
            return np.mean(alike, axis=0)
    return np.mean(list(table.values()), axis=0)


@given(codes, codes, st.integers(0, 3))
def test_whatever_both_vocabularies_kept_rows_are_the_parents_and_new_ones_their_relatives_mean(
    old, new, unused
):
    parent, vocabulary = parent_of(*old), vocabulary_of(*new)
    child, _ = begun(parent, vocabulary, size=len(vocabulary) + unused)
    table = {code: parent.weights[TOKENS][parent.vocabulary.ids[code]] for code in old}
    for code in new:
        row = child[TOKENS][vocabulary.ids[code]]
        if code in table:
            np.testing.assert_array_equal(row, table[code])
        else:
            np.testing.assert_allclose(row, reference(code, table), rtol=1e-4, atol=1e-5)


def test_what_hid_a_code_and_led_a_patient_keeps_its_row_under_another_id():
    parent = parent_of("A", "B", mask_id=0, cls_id=3)
    vocabulary = vocabulary_of("B", "A")
    mask, cls = vocabulary.id_of(SpecialToken.MASK), vocabulary.id_of(SpecialToken.CLS)
    child, _ = begun(parent, vocabulary, mask_id=mask, cls_id=cls)
    np.testing.assert_array_equal(child[TOKENS][mask], parent.weights[TOKENS][0])
    np.testing.assert_array_equal(child[TOKENS][cls], parent.weights[TOKENS][3])
    np.testing.assert_array_equal(child[OUTPUT_BIAS][mask], parent.weights[OUTPUT_BIAS][0])


def test_new_and_dropped_codes_are_told():
    matching = match_rows(parent_of("A", "B", "C"), vocabulary_of("B", "D", "E"), FIVE + 3, None, None)
    assert matching.new == ("D", "E")
    assert matching.dropped == 2
    assert matching.rows.tolist() == [*range(FIVE), FIVE + 1, NEW, NEW]


def test_without_a_vocabulary_on_either_side_rows_go_by_number():
    parent = parent_of(rows=9)
    child, _ = begun(parent, vocabulary_of("A", "B"))
    np.testing.assert_array_equal(child[TOKENS], parent.weights[TOKENS][: FIVE + 2])
    named = parent_of("A", "B")
    child, _ = begun(named, None, size=6)
    np.testing.assert_array_equal(child[OUTPUT_BIAS], named.weights[OUTPUT_BIAS][:6])
    with pytest.raises(UserError, match="parent has 9 tokens, 10 are asked for, and without a vocabulary"):
        begun(parent, vocabulary_of(*"ABCDE"))


def test_unused_rows_stay_where_they_are():
    parent = parent_of("A", "B", rows=FIVE + 4)
    child, _ = begun(parent, vocabulary_of("A", "B"), size=FIVE + 4)
    np.testing.assert_array_equal(child[TOKENS], parent.weights[TOKENS])
    # An export names them.
    named = vocabulary_of("A", "B", f"[unused{FIVE + 2}]", f"[unused{FIVE + 3}]")
    parent = Pretrained(parent.config, parent.weights, parent.source, named)
    assert same_rows(parent, vocabulary_of("A", "B"))
    child, _ = begun(parent, vocabulary_of("A", "B"), size=FIVE + 4)
    np.testing.assert_array_equal(child[TOKENS], parent.weights[TOKENS])


def test_rows_are_the_same_as_far_as_is_known():
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
    ("changes", "message"),
    [
        ({"max_position_embeddings": 8}, "parent has max_position_embeddings 7, not 8: leave"),
        (
            {"type_vocab_size": 6, "hidden_act": "relu"},
            "parent has hidden_act gelu, not relu; type_vocab_size 5",
        ),
        ({"hidden_size": 6}, "parent has hidden_size 3, not 6"),
    ],
)
def test_a_shape_that_asks_for_more_or_computes_another_thing_is_refused(changes, message):
    parent = parent_of("A")
    matching = match_rows(parent, parent.vocabulary, FIVE + 1, None, None)
    with pytest.raises(UserError, match=message):
        fitted_weights(parent, config_of(FIVE + 1, **changes), matching, "mean", {})


def test_weights_that_do_not_fit_their_own_config_are_refused():
    parent = parent_of("A")
    parent.weights[POSITION_TABLE] = parent.weights[POSITION_TABLE][:3]
    with pytest.raises(UserError, match=r"positions/embeddings is \[3, 3\], not \[7, 3\]"):
        begun(parent, parent.vocabulary)


def test_what_the_parent_lacks_is_left_as_it_is():
    parent = parent_of("A")
    del parent.weights[OUTPUT_BIAS]
    child, _ = begun(parent, parent.vocabulary)
    assert OUTPUT_BIAS not in child


def test_the_fingerprint_tells_names_shapes_and_values():
    one = parent_of("A")
    assert one.sha256 == Pretrained(one.config, dict(reversed(one.weights.items())), Path("other")).sha256
    other = {name: value.copy() for name, value in one.weights.items()}
    other[TOKENS][0, 0] += 1
    assert one.sha256 != Pretrained(one.config, other, Path("parent")).sha256
