import numpy as np

from ehr_bert.ragged import offsets_of, spans, starts_of

LENGTHS = np.array([2, 0, 3], np.int32)


def test_offsets_are_the_starts_and_the_total():
    assert starts_of(LENGTHS).tolist() == [0, 2, 2]
    assert offsets_of(LENGTHS).tolist() == [0, 2, 2, 5]
    assert offsets_of(LENGTHS[:0]).tolist() == [0]
    assert offsets_of(LENGTHS).dtype == np.int64


def test_spans_are_the_flat_positions_of_the_rows():
    assert spans(np.array([7, 1, 3]), LENGTHS).tolist() == [7, 8, 3, 4, 5]
    assert spans(LENGTHS[:0], LENGTHS[:0]).tolist() == []
