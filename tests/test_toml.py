import tomllib

from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.toml import read_toml, toml_text
from tests.user_errors import raises_user_error

keys = st.text("abz_09", min_size=1)
plain = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
inline = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), plain)
tables = st.dictionaries(keys, plain | st.lists(plain) | inline)


@given(st.dictionaries(keys, plain | st.lists(plain) | tables | st.lists(tables, min_size=1)))
def test_what_is_written_reads_back_the_same(values):
    parsed = tomllib.loads(toml_text(values))
    assert parsed == values
    assert repr(sorted(parsed.items())) == repr(sorted(values.items()))  # True is not 1 here


def test_tables_follow_the_plain_values():
    text = toml_text({"one": [{"a": 1}, {"a": 2}], "b": True, "two": {"c": ["x", 'y"']}})
    assert text == 'b = true\n\n[[one]]\na = 1\n\n[[one]]\na = 2\n\n[two]\nc = ["x", "y\\""]\n'


def test_a_file_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "my.toml").write_bytes(b"\xff")
    with raises_user_error("invalid-toml", tmp_path / "my.toml"):
        read_toml(tmp_path / "my.toml")


def test_a_missing_file_is_named(tmp_path):
    with raises_user_error("unreadable-file", tmp_path / "my.toml"):
        read_toml(tmp_path / "my.toml")
