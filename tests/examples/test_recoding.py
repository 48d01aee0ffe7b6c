import numpy as np
import pyarrow as pa

from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.reading import expand, open_examples
from ehr_bert.examples.recoding import Recoding
from ehr_bert.examples.sidecars import Sidecar
from ehr_bert.examples.writing import write_folder
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.examples.patients import UNK, batch_of, vocabulary
from tests.examples.test_updates import stored
from tests.examples.test_writing import sequences_folder
from tests.user_errors import raises_user_error

OWN = vocabulary(codes=301)
PATIENTS = [[(1, [5, 9, 6]), (3, [7])], [(2, [305])], []]


def vocabulary_with(*codes: int) -> Vocabulary:
    return Vocabulary.from_counts(CodeCount(f"ICD10_{code}", 1000 - code, 1) for code in codes)


def test_tokens_keep_their_names_and_unknown_ones_are_counted():
    other = vocabulary_with(4, 0, 300, 777)  # of ids 9, 5 and 305, and one more
    batch, unknown = Recoding(OWN, other)(batch_of(PATIENTS))
    assert unknown == 2
    names = [[other.tokens[token] for token in ids] for ids in batch.column("token_ids").to_pylist()]
    assert names == [["ICD10_0", "ICD10_4", "[UNK]", "[UNK]"], ["ICD10_300"], []]
    before = batch_of(PATIENTS)
    assert batch.schema == before.schema
    for name in ("patient_id", "visit_ids", "los_days"):
        if name in batch.schema.names:
            assert batch.column(name) == before.column(name)


def test_slices_of_batches_are_recoded():
    batch, _ = Recoding(OWN, OWN)(batch_of(PATIENTS).slice(1, 2))
    assert batch.column("token_ids").to_pylist() == [[305], []]


def test_an_id_that_is_not_in_the_vocabulary_is_refused():
    with raises_user_error("ids-out-of-range", 305):
        Recoding(vocabulary(codes=300), OWN)(batch_of(PATIENTS))


def test_a_folder_of_examples_under_another_vocabulary(tmp_path):
    sequences = sequences_folder(tmp_path / "in")
    settings = PackedSettings(5, (16, 64))
    write_folder(sequences, tmp_path / "own", settings, shards=1)
    other = vocabulary_with(*range(150, 301), 888)
    accounts = write_folder(sequences, tmp_path / "other", settings, shards=1, vocabulary=other)
    own, recoded = (
        sorted(np.concatenate([tokens for _, tokens in stored(expand(f"{tmp_path}/{name}/train-*"))]))
        for name in ("own", "other")
    )
    expected = [other.ids.get(OWN.tokens[token], UNK) for token in own]
    assert recoded == sorted(expected)
    assert accounts["train"].unknown == expected.count(UNK) > 0
    assert f"; {expected.count(UNK):,} tokens became [UNK]" in str(accounts["train"])
    assert open_examples(expand(f"{tmp_path}/other/train-*")).info.vocabulary == other
    assert Sidecar.read(tmp_path / "other" / "examples.json").accounts == accounts


def test_the_vocabulary_of_the_sequences_changes_no_example(tmp_path):
    sequences = sequences_folder(tmp_path / "in")
    for name, given in (("a", None), ("b", OWN)):
        write_folder(sequences, tmp_path / name, PackedSettings(5, (16, 64)), shards=1, vocabulary=given)
    for file in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()


def test_an_empty_batch_is_recoded():
    batch, unknown = Recoding(OWN, OWN)(batch_of([]))
    assert (batch.num_rows, unknown) == (0, 0)
    assert batch.column("token_ids").type == pa.list_(pa.int32())
