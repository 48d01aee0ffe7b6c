"""What is told of a model's token table: a folder of its map and its neighbours."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ehr_bert.codes.titles import titles_of
from ehr_bert.files import SUMMARY_FILE, atomic_folder, write_json
from ehr_bert.prediction.explaining.embeddings import TokenEmbeddings, flat
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
    """Writes the map as pictures and table, and every token's neighbours.

    Args:
        output: The folder; an earlier one is replaced.
        embeddings: `V` tokens.
        method: How they are laid flat, `tsne` or `pca`.
        seed: For t-SNE.
        nearest: Neighbours of each token.
        shown: Codes to mark on the map, and whose neighbours are told.
        titles: The user's own titles.

    Returns:
        What to print.

    Raises:
        UserError: the model doesn't know one of `shown`, or `output` is something else.
    """
    tokens = embeddings.tokens
    marked = embeddings.places(shown)
    title = np.array(list(titles_of(tokens, titles).values()), object)  # [V]
    neighbours, similarities = embeddings.neighbours(np.arange(len(tokens)), nearest)  # [V, k]
    agreement, chance = embeddings.chapter_agreement()
    told = (
        f"{agreement:.0%} of the nearest neighbours of {len(tokens):,} codes are of the code's own chapter, "
        f"{chance:.0%} by chance"
    )
    places = flat(embeddings, method, seed)
    with atomic_folder(output, "embeddings") as temporary:
        draw_map(
            places,
            embeddings.chapters,
            [temporary / name for name in MAP_PICTURES],
            told,
            [(place, tokens[place]) for place in marked],
        )
        columns = {"code": tokens, "title": title, "chapter": embeddings.chapters}
        _write(temporary / MAP_TABLE, columns | {"x": places[:, 0].round(4), "y": places[:, 1].round(4)})
        rank = np.tile(np.arange(1, neighbours.shape[1] + 1), len(tokens))
        similarity = similarities.astype(np.float64).round(4).ravel()
        columns = {"code": np.repeat(tokens, neighbours.shape[1]), "rank": rank, "cosine": similarity}
        columns |= {"neighbour": tokens[neighbours.ravel()], "title": title[neighbours.ravel()]}
        _write(temporary / NEIGHBOURS_TABLE, columns)
        facts = {"codes": len(tokens), "size": embeddings.vectors.shape[1], "method": method, "seed": seed}
        agreed = {"neighbours_of_own_chapter": agreement, "by_chance": chance}
        write_json(temporary / SUMMARY_FILE, facts | agreed)
    lines = []
    for place in marked:
        lines.append(f"{tokens[place]}  {title[place]}".rstrip())
        for near, cosine in zip(neighbours[place], similarities[place], strict=True):
            lines.append(f"  {cosine:5.2f}  {tokens[near]:<16} {title[near]}".rstrip())
    return "\n".join([*lines, told])


def _write(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
