import numpy as np
import pytest

from ehr_bert.errors import UserError
from ehr_bert.prediction.arrays import read_arrays, write_arrays


def test_arrays_come_back(tmp_path):
    write_arrays(tmp_path / "a.npz", {"a b": np.arange(3), "c": np.eye(2)})
    found = read_arrays(tmp_path / "a.npz")
    assert found["a b"].tolist() == [0, 1, 2]
    assert found["c"].tolist() == [[1, 0], [0, 1]]
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize("content", [b"", b"{", b"PK\x03\x04 and no more"])
def test_a_damaged_file_is_told(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npz is no file of arrays, or a damaged one"):
        read_arrays(tmp_path / "a.npz")


def test_a_file_cut_short_or_of_one_array_is_told(tmp_path):
    write_arrays(tmp_path / "a.npz", {"a": np.random.default_rng(0).random(999)})
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:3000])
    np.save(tmp_path / "b.npy", np.arange(3))
    for name in ("a.npz", "b.npy"):
        with pytest.raises(UserError, match="no file of arrays"):
            read_arrays(tmp_path / name)


def test_objects_are_never_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(UserError, match="no file of arrays"):
        read_arrays(tmp_path / "a.npz")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="can't be read: No such file"):
        read_arrays(tmp_path / "a.npz")
