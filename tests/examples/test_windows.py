import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.examples.windows import Accounts, LongPatients, cut
from tests.examples.patients import batch_of
from tests.user_errors import raises_user_error

visits = st.lists(
    st.tuples(st.integers(-1, 9), st.lists(st.integers(5, 99), min_size=1, max_size=9)), max_size=6
)


def as_lists(windows):
    """Each window as its tokens, its visits and its longest stay."""
    stops = np.cumsum(windows.lengths)
    return [
        (windows.tokens[a:b].tolist(), windows.visits[a:b].tolist(), int(stay))
        for a, b, stay in zip(stops - windows.lengths, stops, windows.longest_stays, strict=True)
    ]


def cut_to_lists(patients, capacity, long_patients):
    windows, accounts = cut(batch_of(patients), capacity, long_patients, False)
    return as_lists(windows), accounts


def one_by_one(history, capacity, long_patients):
    """The windows of one patient, by a loop over its codes."""
    codes = [(token, visit, stay) for visit, (stay, tokens) in enumerate(history) for token in tokens]
    if len(codes) <= capacity:
        pieces = [codes] if codes else []
    elif long_patients == LongPatients.DROP:
        pieces = []
    elif long_patients == LongPatients.LATEST:
        latest = codes[-capacity:]
        whole = [code for code in latest if codes[len(codes) - capacity - 1][1] != code[1]]
        pieces = [whole or latest]
    else:
        pieces, rest = [], codes
        while len(rest) > capacity:
            end = capacity
            while end > 0 and rest[end][1] == rest[end - 1][1]:
                end -= 1
            pieces.append(rest[: end or capacity])
            rest = rest[end or capacity :]
        pieces.append(rest)
    return [
        (
            [token for token, _, _ in piece],
            [visit - piece[0][1] + 1 for _, visit, _ in piece],
            max(stay for _, _, stay in piece),
        )
        for piece in pieces
    ]


@given(st.lists(visits, max_size=7), st.integers(1, 13), st.sampled_from(LongPatients))
def test_windows_are_those_of_a_loop_over_patients(patients, capacity, long_patients):
    windows, accounts = cut_to_lists(patients, capacity, long_patients)
    expected = [one_by_one(history, capacity, long_patients) for history in patients]
    assert windows == [window for windows_of_patient in expected for window in windows_of_patient]
    assert accounts.patients == len(patients)
    assert accounts.written == sum(bool(windows_of_patient) for windows_of_patient in expected)
    assert accounts.written + accounts.without_codes + accounts.too_long == len(patients)
    assert accounts.examples == len(windows)
    if long_patients == LongPatients.SPLIT:
        assert accounts.split == sum(len(windows_of_patient) > 1 for windows_of_patient in expected)


def test_a_long_patient_is_split_at_visits_and_a_long_visit_is_divided():
    history = [(1, [5, 6]), (8, [7, 8]), (2, [9, 10, 11, 12, 13, 14])]
    windows, accounts = cut_to_lists([history], 5, LongPatients.SPLIT)
    assert windows == [
        ([5, 6, 7, 8], [1, 1, 2, 2], 8),
        ([9, 10, 11, 12, 13], [1, 1, 1, 1, 1], 2),
        ([14], [1], 2),
    ]
    assert accounts == Accounts(patients=1, written=1, split=1, examples=3)


def test_the_latest_whole_visits_are_kept():
    history = [(9, [5, 6]), (1, [7, 8, 9]), (2, [10])]
    windows, accounts = cut_to_lists([history], 5, LongPatients.LATEST)
    assert windows == [([7, 8, 9, 10], [1, 1, 1, 2], 2)]
    assert accounts == Accounts(patients=1, written=1, truncated=1, examples=1)


def test_a_last_visit_that_is_too_long_keeps_its_last_codes():
    windows, _ = cut_to_lists([[(9, [5]), (1, [6, 7, 8, 9])]], 3, LongPatients.LATEST)
    assert windows == [([7, 8, 9], [1, 1, 1], 1)]


def test_a_window_has_the_longest_of_its_stays():
    windows, _ = cut_to_lists([[(9, [5, 6]), (3, [7]), (-1, [8])], [(-1, [9])]], 2, LongPatients.SPLIT)
    assert [stay for _, _, stay in windows] == [9, 3, -1]


def test_short_first_stays_are_excluded_on_request():
    patients = [[(0, [5]), (3, [6])], [(1, [7]), (0, [8])], [(-1, [9])], [], [(0, [5] * 9)]]
    windows, accounts = cut(batch_of(patients), 4, LongPatients.DROP, True)
    assert as_lists(windows) == [([7, 8], [1, 2], 1)]
    assert accounts == Accounts(
        patients=5, written=1, without_codes=1, too_long=1, short_first_stay=2, examples=1
    )


def test_neighbours_with_the_same_visit_number_are_not_one_visit():
    windows, _ = cut_to_lists([[(1, [5, 6, 7])], [(1, [8, 9, 10, 11])]], 3, LongPatients.LATEST)
    assert [tokens for tokens, _, _ in windows] == [[5, 6, 7], [9, 10, 11]]


def test_a_slice_of_a_batch_is_cut_like_a_batch():
    patients = [[(1, [5, 6])], [(9, [7]), (1, [8, 9])], [(2, [10])]]
    part, _ = cut(batch_of(patients).slice(1, 1), 2, LongPatients.SPLIT, False)
    alone, _ = cut(batch_of(patients[1:2]), 2, LongPatients.SPLIT, False)
    assert as_lists(part) == as_lists(alone) == [([7], [1], 9), ([8, 9], [1, 1], 1)]


def test_cls_is_the_first_token_of_each_window_in_visit_0():
    windows, _ = cut(batch_of([[(1, [5, 6]), (1, [7])], [(9, [8])]]), 5, LongPatients.SPLIT, False)
    assert as_lists(windows.with_cls(2)) == [
        ([2, 5, 6, 7], [0, 1, 1, 2], 1),
        ([2, 8], [0, 1], 9),
    ]


@pytest.mark.parametrize("visit", [0, 2])
def test_a_visit_without_a_stay_is_refused(visit):
    batch = pa.record_batch({"token_ids": [[5]], "visit_ids": [[visit]], "los_days": [[1]]})
    with raises_user_error("invalid-visit-id"):
        cut(batch, 5, LongPatients.SPLIT, False)
