"""Small examples, recipes and requests for the tests of training."""

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ehr_bert.examples.packed import PackedSettings
from ehr_bert.examples.reading import expand
from ehr_bert.examples.tutorial import TutorialSettings
from ehr_bert.examples.writing import write_files, write_folder
from ehr_bert.model.config import ModelConfig
from ehr_bert.pickles import read_bencs, write_pickles
from ehr_bert.schemas import OBSERVATION, SEQUENCES
from ehr_bert.training.inputs import FeatureSource
from ehr_bert.training.recipe import Phase, Recipe
from ehr_bert.training.request import PretrainingRequest
from ehr_bert.vocabulary import CodeCount, Vocabulary

LENGTH, MASKED, CODES, PATIENTS = 11, 2, 40, 23
CONFIG = ModelConfig(
    hidden_size=12,
    num_hidden_layers=1,
    num_attention_heads=3,
    intermediate_size=5,
    max_position_embeddings=17,
    type_vocab_size=6,
)
PHASE = Phase(max_seq_length=17, batch_patients=5, steps=6, warmup_steps=2, learning_rate=1e-2)
RECIPE = Recipe(model=CONFIG, phases=(PHASE,), compile=False, report_every=4)
ONE_STEP = dataclasses.replace(RECIPE, phases=(dataclasses.replace(PHASE, steps=1),))


def vocabulary_of(codes: int) -> Vocabulary:
    return Vocabulary.from_counts(CodeCount(f"ICD9_{code:03}", 1, 1) for code in range(codes))


def random_patients(codes: int) -> list[list]:
    """Return tutorial records of patients with up to nine codes in up to four visits."""
    rng = np.random.default_rng(0)
    records = []
    for patient in range(PATIENTS):
        visits = np.sort(rng.integers(0, 4, rng.integers(1, 10)))
        visits = np.unique(visits, return_inverse=True)[1] + 1
        stays = [int(stay) for stay in rng.choice([1, 2, 9], visits.max())]
        ids = rng.integers(5, codes + 5, len(visits)).tolist()
        records.append([patient, stays, [0] * len(stays), ids, visits.tolist()])
    return records


def write_examples(folder: Path, name: str = "F", med_bert: bool = False, codes: int = CODES) -> Path:
    """Write tutorial examples of all patients."""
    folder.mkdir(exist_ok=True)
    write_pickles(folder / "P.bencs.train", [random_patients(codes)])
    settings = TutorialSettings(LENGTH, MASKED, 0.3, seed=0, med_bert=med_bert)
    write_files(read_bencs(folder / "P.bencs.train"), "P", vocabulary_of(codes), settings, [folder / name])
    return folder / name


def write_packed(folder: Path, *lengths: int) -> FeatureSource:
    """Write packed examples of all patients. The training and validation splits are equal."""
    sequences = folder / "sequences"
    for split in ("train", "valid"):
        records = random_patients(CODES)
        gaps = [[0] * len(stays) for _, stays, *_ in records]
        columns = [
            [f"{split}{patient}" for patient, *_ in records],
            [ids for *_, ids, _ in records],
            [visits for *_, visits in records],
            [[date(2000, 1, 1)] * len(stays) for _, stays, *_ in records],
            [stays for _, stays, *_ in records],
            gaps,
            *([None] * PATIENTS for _ in OBSERVATION),
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SEQUENCES, strict=True)]
        (sequences / "sequences" / split).mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_arrays(arrays, schema=SEQUENCES)
        pq.write_table(table, sequences / "sequences" / split / "0.parquet")
    vocabulary_of(CODES).write(sequences / "vocabulary.tsv")
    output = folder / f"F{lengths[-1]}"
    write_folder(sequences, output, PackedSettings(seed=0, window_lengths=lengths), shards=1)
    return FeatureSource(expand(f"{output}/train-*.tfrecord"), expand(f"{output}/valid-*.tfrecord"))


def request_for(folder: Path, **changes) -> PretrainingRequest:
    """Return a request to train and evaluate on tutorial examples, with output in `folder / "D"`."""
    features = changes.pop("features", None) or [FeatureSource([write_examples(folder)])]
    return PretrainingRequest(**{"features": features, "output": folder / "D", "recipe": RECIPE} | changes)


def with_phase(**changes) -> Recipe:
    """Return the recipe with changes of its only phase."""
    return dataclasses.replace(RECIPE, phases=(dataclasses.replace(PHASE, **changes),))
