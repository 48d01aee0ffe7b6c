"""Measure how fast TFRecord examples are read into batches on this machine.

    python benchmarks/input_pipeline.py PACKED/train-*.tfrecord
    python benchmarks/input_pipeline.py TUTORIAL/train-*.tfrecord --batch-patients 1024

Prints a Markdown row: windows, patients and real tokens per second, and the share of real positions in a
batch. Both kinds of examples are read as in a training.
"""

import argparse
import time
from pathlib import Path

from ehr_bert.quiet import import_tensorflow

HEADER = (
    "| kind | windows/s | patients/s | real tokens/s | real positions | seconds to the first batch |\n"
    "|---|---|---|---|---|---|"
)


def measure(files: list[Path], batch_patients: int, micro_batch_tokens: int, updates: int) -> str:
    """Return the row of the table for a number of updates after the first one."""
    from ehr_bert.examples.reading import open_examples
    from ehr_bert.examples.source import Reading
    from ehr_bert.examples.updates import BatchSize

    examples = open_examples(files)
    planned = examples.updates(
        Reading(max_visits=1000),
        batch=BatchSize(patients=batch_patients),
        micro_batch_tokens=micro_batch_tokens,
        replicas=1,
        seed=(1, 0),
    )
    start = time.perf_counter()
    cells = iter(planned.dataset().take((1 + updates) * planned.micro_batches))
    for _ in range(planned.micro_batches):
        next(cells)
    first_seconds = time.perf_counter() - start

    start = time.perf_counter()
    for _ in cells:
        pass
    seconds = time.perf_counter() - start
    info, epochs = examples.info, updates / planned.updates_per_epoch
    positions = updates * planned.micro_batches * planned.layout.positions
    return (
        f"| {info.kind} | {epochs * info.examples / seconds:,.0f} | {epochs * info.patients / seconds:,.0f} "
        f"| {epochs * info.real_tokens / seconds:,.0f} | {epochs * info.real_tokens / positions:.1%} "
        f"| {first_seconds:.1f} |"
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", help="TFRecord files of one kind of examples")
    parser.add_argument("--batch-patients", type=int, default=1024, help="patients per update")
    parser.add_argument("--micro-batch-tokens", type=int, default=16_384, help="positions per batch")
    parser.add_argument("--updates", type=int, default=100, help="number of updates to measure")
    arguments = parser.parse_args()
    import_tensorflow()
    row = measure(arguments.files, arguments.batch_patients, arguments.micro_batch_tokens, arguments.updates)
    print(f"{HEADER}\n{row}")


if __name__ == "__main__":
    main()
