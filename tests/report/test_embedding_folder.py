# Covers: ehr_bert.report.embedding_folder, ehr_bert.report.embedding_map
import csv
import json
import re

import numpy as np
import pytest

from ehr_bert.codes.chapters import CHAPTERS
from ehr_bert.prediction.explaining.embeddings import TokenEmbeddings
from ehr_bert.report.embedding_folder import write_embeddings
from ehr_bert.report.embedding_map import draw_map
from tests.user_errors import raises_user_error

TOKENS = ["ICD9_428.0", "ICD10_I50.9", "ICD10_E11.9", "ICD10_E11.65", "SEX_F", "SNOMED_$1_2$"]


@pytest.fixture
def embeddings():
    vectors = np.array([[5, 0], [5, 1], [0, 3], [1, 3], [-1, -2], [-2, 0]], np.float32)
    return TokenEmbeddings(np.array(TOKENS, object), vectors)


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_a_folder_of_pictures_and_tables(tmp_path, embeddings):
    shown, titles = ["ICD9_428.0"], {"SNOMED_$1_2$": 'a "b"\tc'}
    text = write_embeddings(tmp_path / "out", embeddings, "pca", 0, 2, shown, titles)
    assert text.splitlines() == [
        "ICD9_428.0  Congestive heart failure, unspecified",
        "   0.98  ICD10_I50.9      Heart failure, unspecified",
        "   0.32  ICD10_E11.65     Type 2 diabetes mellitus with hyperglycemia",
        "6 codes: 13% of nearest neighbours belong to the same chapter (13% expected by chance)",
    ]
    points = read(tmp_path / "out" / "map.tsv")
    assert [point["code"] for point in points] == TOKENS
    assert [point["chapter"] for point in points[1:3]] == ["Circulatory system", "Endocrine and metabolic"]
    assert points[5]["title"] == 'a "b"\tc'
    neighbours = read(tmp_path / "out" / "neighbours.tsv")
    assert len(neighbours) == 12
    assert {name: neighbours[2][name] for name in ("code", "rank", "neighbour", "cosine")} == {
        "code": "ICD10_I50.9",
        "rank": "1",
        "neighbour": "ICD9_428.0",
        "cosine": "0.9806",
    }
    facts = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert facts["codes"] == 6
    assert facts["neighbours_of_own_chapter"] == pytest.approx(facts["by_chance"])  # All are neighbours.


def test_the_same_embeddings_give_the_same_bytes(tmp_path, embeddings):
    for name in ("one", "other"):
        write_embeddings(tmp_path / name, embeddings, "tsne", 5, 3, ["SNOMED_$1_2$"])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


def test_an_unknown_code_leaves_nothing(tmp_path, embeddings):
    with raises_user_error("unknown-code", "ICD10_Z99"):
        write_embeddings(tmp_path / "out", embeddings, "pca", 0, 2, ["ICD10_Z99"])
    assert not (tmp_path / "out").exists()


def test_each_chapter_has_its_own_colour_and_marker(tmp_path):
    path = tmp_path / "map.svg"
    draw_map(np.random.default_rng(0).random((len(CHAPTERS), 2)), np.array(CHAPTERS, object), [path], "all")
    drawn = path.read_text()
    assert all(f"{name} (1)" in drawn for name in CHAPTERS)
    looks = re.findall(r'<use xlink:href="(.*?)"', drawn[drawn.index('id="legend_1"') :])
    assert len(looks) == len(set(looks)) == len(CHAPTERS)
