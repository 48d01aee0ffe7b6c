"""Output folder of `ehr-bert embeddings`: a map of the codes and their nearest neighbours."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ehr_bert.codes.titles import titles_of
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.prediction.explaining.embeddings import TokenEmbeddings, project
from ehr_bert.report.embedding_map import draw_map

MAP_PICTURES = ("map.png", "map.svg")
MAP_TABLE = "map.tsv"
NEIGHBOURS_TABLE = "neighbours.tsv"


def write_embeddings(
    output: Path,
    embeddings: TokenEmbeddings,
    method: str,
    seed: int,
    nearest: int,
    shown: Sequence[str] = (),
    titles: Mapping[str, str] | None = None,
) -> str:
    """Write the map as images and as a table, and the nearest neighbours of every token.

    Args:
        output: Output folder. An earlier output is replaced.
        embeddings: Embeddings of `V` tokens.
        method: Projection, `tsne` or `pca`.
        seed: Random seed of t-SNE.
        nearest: Number of neighbours of each token.
        shown: Codes to mark on the map and to list with their neighbours in the returned text.
        titles: User-defined titles of codes.

    Returns:
        Text to print.

    Raises:
        UserError: A code in `shown` is unknown (key `unknown-code`), or `output` contains other files
            (`output-not-empty`).
    """
    tokens = embeddings.tokens
    marked = embeddings.places(shown)
    title = np.array(list(titles_of(tokens, titles).values()), object)  # [V]
    neighbours, similarities = embeddings.neighbours(np.arange(len(tokens)), nearest)  # [V, nearest]
    agreement, chance = embeddings.chapter_agreement()
    caption = (
        f"{len(tokens):,} codes: {agreement:.0%} of nearest neighbours belong to the same chapter "
        f"({chance:.0%} expected by chance)"
    )
    coordinates = project(embeddings, method, seed)
    with atomic_folder(output, "embeddings") as temporary:
        draw_map(
            coordinates,
            embeddings.chapters,
            [temporary / name for name in MAP_PICTURES],
            caption,
            [(row, tokens[row]) for row in marked],
        )
        columns = {"code": tokens, "title": title, "chapter": embeddings.chapters}
        _write(
            temporary / MAP_TABLE,
            columns | {"x": coordinates[:, 0].round(4), "y": coordinates[:, 1].round(4)},
        )
        rank = np.tile(np.arange(1, neighbours.shape[1] + 1), len(tokens))
        similarity = similarities.astype(np.float64).round(4).ravel()
        columns = {"code": np.repeat(tokens, neighbours.shape[1]), "rank": rank, "cosine": similarity}
        columns |= {"neighbour": tokens[neighbours.ravel()], "title": title[neighbours.ravel()]}
        _write(temporary / NEIGHBOURS_TABLE, columns)
        facts = {"codes": len(tokens), "size": embeddings.vectors.shape[1], "method": method, "seed": seed}
        shares = {"neighbours_of_own_chapter": agreement, "by_chance": chance}
        write_json(temporary / SUMMARY_FILE, facts | shares)
    lines = []
    for row in marked:
        lines.append(f"{tokens[row]}  {title[row]}".rstrip())
        for neighbour, cosine in zip(neighbours[row], similarities[row], strict=True):
            lines.append(f"  {cosine:5.2f}  {tokens[neighbour]:<16} {title[neighbour]}".rstrip())
    return "\n".join([*lines, caption])


def _write(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
