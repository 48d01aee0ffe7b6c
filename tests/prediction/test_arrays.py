import numpy as np
import pytest

from ehr_bert.prediction.arrays import read_arrays, write_arrays
from tests.user_errors import raises_user_error


def test_arrays_are_read_as_they_were_written(tmp_path):
    write_arrays(tmp_path / "a.npz", {"a b": np.arange(3), "c": np.eye(2)})
    arrays = read_arrays(tmp_path / "a.npz")
    assert arrays["a b"].tolist() == [0, 1, 2]
    assert arrays["c"].tolist() == [[1, 0], [0, 1]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("content", [b"", b"{", b"PK\x03\x04 and no more"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with raises_user_error("damaged-file", tmp_path):
        read_arrays(tmp_path / "a.npz")


def test_a_truncated_file_or_a_single_array_is_refused(tmp_path):
    write_arrays(tmp_path / "a.npz", {"a": np.random.default_rng(0).random(999)})
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:3000])
    np.save(tmp_path / "b.npy", np.arange(3))
    for name in ("a.npz", "b.npy"):
        with raises_user_error("damaged-file", tmp_path):
            read_arrays(tmp_path / name)


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with raises_user_error("damaged-file", tmp_path):
        read_arrays(tmp_path / "a.npz")


def test_a_missing_file_is_refused(tmp_path):
    with raises_user_error("unreadable-file", tmp_path, "No such file"):
        read_arrays(tmp_path / "a.npz")
