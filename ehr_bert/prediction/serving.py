"""Prediction of risks with a fine-tuned model, in parts, so that any number of patients fits in memory."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from scipy.special import expit
from tqdm import tqdm

from ehr_bert.codes import RollUp
from ehr_bert.cohorts.cohort import COHORT_FOLDER, Cohort, cohort_of, read_cohort
from ehr_bert.engines import Engine
from ehr_bert.errors import UserError
from ehr_bert.files import atomic_files
from ehr_bert.prediction.fitting import predict_logits
from ehr_bert.prediction.frozen import FrozenVectors, frozen_vectors
from ehr_bert.prediction.optimization import FitSettings, Runtime
from ehr_bert.prediction.predictor import SavedPredictor, load_predictor
from ehr_bert.prediction.reading import encode
from ehr_bert.ragged import offsets_of
from ehr_bert.schemas import ContextKind, Split
from ehr_bert.sequences.building import SequenceOptions, build_histories
from ehr_bert.sources import read_events
from ehr_bert.vocabulary import VOCABULARY_TABLE, Vocabulary

logger = logging.getLogger(__name__)

SEQUENCES_FOLDER = "sequences"

_VISIT_COLUMNS = ("visit_ids", "admit_date", "los_days", "days_to_next")
"""Columns of a history in `SEQUENCES` and in `COHORT`, besides the codes."""
BATCH_TOKENS = FitSettings().batch_tokens
"""Maximum number of tokens that are computed at a time."""

PART = 10_000
"""Number of examples of a cohort that are read at a time."""

RISKS = pa.schema([("patient_id", pa.string()), ("index_date", pa.date32()), ("risk", pa.float64())])
"""Columns of the output. `index_date` is omitted if it is unknown; `embedding` is appended on request."""


@dataclass(frozen=True)
class PredictionSummary:
    """Summary of a prediction.

    Attributes:
        examples: Number of histories.
        calibrated: Whether the risks are calibrated.
        mean_risk: Mean of the risks.
    """

    examples: int
    calibrated: bool
    mean_risk: float

    def __str__(self) -> str:
        text = f"risks of {self.examples:,} histories, mean {self.mean_risk:.1%}"
        return text if self.calibrated else f"{text} (not calibrated)"


def predict(
    model: Path, source: Path, output: Path, engine: Engine, embeddings: bool = False
) -> PredictionSummary:
    """Write the risk of every patient.

    Args:
        model: The output folder of `ehr-bert finetune`, or the folder of a predictor.
        source: A cohort folder, a sequences folder, or a diagnosis table as for `read_events`. From a
            cohort, the history before each index date is read; otherwise the complete history.
        output: A `.parquet` or `.csv` file with the columns `RISKS`.
        engine: Engine that reads diagnosis tables.
        embeddings: Whether to write the vectors that the head reads as well. For a head that reads visits,
            this is their mean over the visits.

    Raises:
        UserError: The output has another suffix (key `unsupported-format`), or is a CSV file with embeddings
            (`embeddings-need-parquet`); the predictor has several outputs (`several-outputs`); the source has
            no history (`no-histories`); or an input cannot be read.
    """
    if output.suffix not in (".parquet", ".csv"):
        raise UserError(
            "unsupported-format", f"{output} has an unsupported suffix. Choose a name in .parquet or .csv."
        )
    if embeddings and output.suffix == ".csv":
        raise UserError(
            "embeddings-need-parquet", f"{output} cannot contain embeddings. Choose a name in .parquet."
        )
    saved = load_predictor(model)
    if saved.predictor.head.outputs != 1:
        raise UserError(
            "several-outputs",
            f"{model} has {saved.predictor.head.outputs} outputs. Choose a model of one binary outcome.",
        )
    runtime = Runtime()
    saved.predictor.to(runtime.device)
    parts, has_dates = _parts(source, engine, saved.facts)
    examples, total = 0, 0.0
    quiet = not logger.isEnabledFor(logging.INFO)
    progress = tqdm(desc="predicting", unit=" histories", dynamic_ncols=True, disable=quiet)
    with atomic_files(output) as (temporary,), progress as bar:
        writer = None
        for part in parts:
            if not len(part):
                continue
            table = _predict_part(part, saved, embeddings, runtime)
            table = table if has_dates else table.drop_columns("index_date")
            if writer is None:
                writer_type = pq.ParquetWriter if output.suffix == ".parquet" else pa_csv.CSVWriter
                writer = writer_type(temporary, table.schema)
            writer.write_table(table)
            examples += len(table)
            total += pc.sum(table["risk"]).as_py()
            bar.update(len(table))
        if writer is None:
            raise UserError("no-histories", f"{source} has no histories. Choose another --input.")
        writer.close()
    return PredictionSummary(examples, saved.calibration is not None, total / examples)


def _predict_part(cohort: Cohort, saved: SavedPredictor, embeddings: bool, runtime: Runtime) -> pa.Table:
    """Return `RISKS` of a part, and the embeddings on request."""
    encoded = encode(cohort.histories, saved.vocabulary)
    inputs = (
        frozen_vectors(saved.predictor.encoder, saved.predictor.head, encoded, BATCH_TOKENS)
        if embeddings
        else encoded
    )
    logits = predict_logits(saved.predictor, inputs, BATCH_TOKENS, runtime)[:, 0]  # [N]
    risks = saved.calibration.probabilities(logits) if saved.calibration else expit(logits.astype(float))
    table = pa.table([cohort.patient_ids, cohort.index_date, risks], schema=RISKS)
    if isinstance(inputs, FrozenVectors):
        vectors = _means(inputs)  # [N, H]
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        table = table.append_column("embedding", column)
    return table


def _means(inputs: FrozenVectors) -> np.ndarray:
    """Return the mean of the vectors of each history: float32 `[N, H]`."""
    sums = np.add.reduceat(inputs.vectors, inputs.offsets[:-1]) if len(inputs) else inputs.vectors
    return sums / inputs.lengths[:, None].astype(np.float32)


def _parts(source: Path, engine: Engine, facts: Mapping[str, Any]) -> tuple[Iterator[Cohort], bool]:
    """Return the patients in parts, and whether they have index dates."""
    if (source / COHORT_FOLDER).is_dir():
        cohort = read_cohort(source)
        rows = (np.arange(begin, min(begin + PART, len(cohort))) for begin in range(0, len(cohort), PART))
        return map(cohort.take, rows), not np.isnat(cohort.index_date).all()
    if (source / SEQUENCES_FOLDER).is_dir():
        return _sequences(source), False
    return _diagnoses(source, engine, facts), False


def _sequences(folder: Path) -> Iterator[Cohort]:
    """Return the patients of a sequences folder, one part per file."""
    tokens = pa.array(Vocabulary.read(folder / VOCABULARY_TABLE).tokens)
    for split in Split:
        for file in sorted((folder / SEQUENCES_FOLDER / split).glob("*.parquet")):
            yield _cohort(pq.read_table(file), "token_ids", tokens, split, str(file))


def _diagnoses(path: Path, engine: Engine, facts: Mapping[str, Any]) -> Iterator[Cohort]:
    """Return the patients of a diagnosis table, with the roll-up and tokens of the training cohort."""
    history_facts = facts.get("cohort", {})
    options = SequenceOptions(
        roll_up=RollUp(history_facts.get("roll_up", RollUp.NONE)),
        context=frozenset(map(ContextKind, history_facts.get("tokens", ()))),
    )
    histories = build_histories(engine, read_events(engine, path), seed=0, options=options)
    tokens = pa.array(histories.codes)
    for part in histories.parts:
        columns = part.select("patient_id", "code_ranks", *_VISIT_COLUMNS).order_by("patient_id")
        yield _cohort(engine.collect(columns), "code_ranks", tokens, Split.TEST, str(path))


def _cohort(table: pa.Table, column: str, tokens: pa.Array, split: Split, where: str) -> Cohort:
    """Return a cohort of patients whose codes are given as positions in `tokens`."""
    positions = table[column].combine_chunks()
    lengths = pc.list_value_length(positions).to_numpy(zero_copy_only=False)
    offsets = pa.array(offsets_of(lengths), pa.int32())
    codes = pa.ListArray.from_arrays(offsets, tokens.take(pc.list_flatten(positions)))
    count = len(table)
    columns = {
        "patient_id": table["patient_id"],
        "index_date": pa.nulls(count, pa.date32()),
        "split": pa.repeat(split.value, count),
        "sex": pa.nulls(count, pa.string()),
        "age": pa.nulls(count, pa.int32()),
        "codes": codes,
        **{name: table[name] for name in _VISIT_COLUMNS},
    }
    return cohort_of(pa.table(columns), {}, where)
