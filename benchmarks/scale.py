"""Measure time and memory from a diagnosis table to TFRecord examples, and compare with common ways.

    python benchmarks/scale.py --patients 10000 100000 --json scale.json

Each step runs in a separate process, including its start, one after the other on the same machine. Prints a
Markdown table. Peak memory is the total resident memory of the step's processes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Measurement:
    """Time and memory of one run of a step.

    Attributes:
        step: Name of the step.
        patients: Number of patients in the whole table.
        count: Number of rows or examples processed.
        seconds: Wall-clock time.
        cpu_seconds: CPU time of all processes, None if the step measures its own time.
        peak_mb: Peak memory in MB.
    """

    step: str
    patients: int
    count: int
    seconds: float
    cpu_seconds: float | None
    peak_mb: float

    @property
    def per_second(self) -> float:
        """Rows or examples per second."""
        return self.count / self.seconds


def resident_bytes(root: int) -> int:
    """Return the resident memory of a process and its descendants."""
    total, pending = 0, [root]
    while pending:
        process = Path(f"/proc/{pending.pop()}")
        try:
            total += int((process / "statm").read_text().split()[1]) * PAGE
            pending += map(int, (process / "task" / process.name / "children").read_text().split())
        except (OSError, IndexError):
            continue
    return total


def run(*command: object) -> tuple[str, float, float, float]:
    """Run a command, and return its output, seconds, CPU seconds and peak memory in MB."""
    peak, start = 0, time.perf_counter()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=errors)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak = max(peak, resident_bytes(process.pid))
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} failed:\n{errors.read()}")
        output.seek(0)
        return output.read(), seconds, usage.ru_utime + usage.ru_stime, peak / 1e6


def best(runs: int, step: str, patients: int, count: int, *command: object) -> Measurement:
    """Return the fastest of several runs."""
    measured = []
    for _ in range(runs):
        _, seconds, cpu_seconds, peak = run(*command)
        measured.append(Measurement(step, patients, count, seconds, cpu_seconds, peak))
    return min(measured, key=lambda measurement: measurement.seconds)


def self_measured(step: str, patients: int, counted: str, *command: object) -> Measurement:
    """Run a step that measures its own time, on a part of the data."""
    output, _, _, peak = run(*command)
    printed = json.loads(output.splitlines()[-1])
    return Measurement(step, patients, printed[counted], printed["seconds"], None, peak)


def measure(patients: int, work: Path, options: argparse.Namespace) -> list[Measurement]:
    """Measure all steps on a simulated table."""
    command = (sys.executable, "-m", "ehr_bert")
    simulated = work / f"simulated-{patients}"
    if not simulated.exists():
        run(*command, "simulate", simulated, "--version", 1, "--patients", patients)
    table = simulated / "data_file.tsv"
    with open(table, "rb") as file:
        rows = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 24), b"")) - 1
    sequences, examples = work / "sequences", work / "examples"
    limit = ("--memory-limit", options.memory_limit)
    shape = ("--tutorial", "--max-seq-length", options.max_seq_length, "--shards", 8)
    preprocess = (*command, "preprocess", table)
    runs = options.runs
    measurements = [
        self_measured(
            *("pandas loop", patients, "rows"),
            *(sys.executable, HERE / "pandas_loop.py", table, work / "loop.pickle", options.subset),
        ),
        best(
            *(runs, "DuckDB sort", patients, rows),
            *(sys.executable, HERE / "duckdb_sort.py", table, work / "sorted.parquet", options.memory_limit),
        ),
        best(runs, "preprocess", patients, rows, *preprocess, sequences, *limit),
        best(
            *(runs, "preprocess, pickled", patients, rows),
            *(sys.executable, HERE.parent / "preprocess" / "preprocess_pretrain_data.py"),
            *(table, "NA", work / "pickled", 0),
        ),
    ]
    if options.spark:
        spark = ("--engine", "spark", "--spark-conf", "spark.driver.memory=3g")
        measurements.append(
            best(1, "preprocess, Spark", patients, rows, *preprocess, work / "by-spark", *spark)
        )
    shard = next((sequences / "sequences" / "train").glob("*.parquet"))
    measurements.append(
        self_measured(
            *("tf.train.Example", patients, "examples"),
            *(sys.executable, HERE / "python_examples.py", shard),
            *(work / "loop.tfrecord", options.subset, options.max_seq_length),
        )
    )
    for processes in options.processes:
        name = f"features, {processes} process{'es' * (processes > 1)}"
        measured = best(
            *(1, name, patients, 0),
            *(*command, "features", sequences, examples, *shape, "--processes", processes),
        )
        summary = json.loads((examples / "summary.json").read_text())
        count = sum(split["examples"] for split in summary.values() if isinstance(split, dict))
        measurements.append(Measurement(**asdict(measured) | {"count": count}))
    return measurements


def table(measurements: list[Measurement]) -> str:
    """Return the measurements as a Markdown table."""
    lines = [
        "| patients | step | rows or examples | seconds | CPU seconds | per second | peak MB |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    for measurement in measurements:
        cpu = f"{measurement.cpu_seconds:.1f}" if measurement.cpu_seconds else ""
        lines.append(
            f"| {measurement.patients:,} | {measurement.step} | {measurement.count:,} "
            f"| {measurement.seconds:.2f} | {cpu} "
            f"| {measurement.per_second:,.0f} | {measurement.peak_mb:,.0f} |"
        )
    return "\n".join(lines)


def ratios(measurements: list[Measurement]) -> str:
    """Return the ratios between the measurements of one table."""
    step = {measurement.step: measurement for measurement in measurements}
    ours = step["preprocess"]
    lines = [
        f"preprocess: {ours.per_second / step['pandas loop'].per_second:,.0f} x the rows per second of the "
        f"pandas loop, {ours.seconds / step['DuckDB sort'].seconds:.2f} x the time of DuckDB's sort; "
        f"pickled {step['preprocess, pickled'].seconds / ours.seconds:.2f} x the time of Parquet",
        *(
            f"{measurement.step}: {measurement.per_second / step['tf.train.Example'].per_second:,.1f} x the "
            "examples per second of tf.train.Example"
            for measurement in measurements
            if measurement.step.startswith("features")
        ),
    ]
    return "\n".join(f"- {ours.patients:,} patients, {line}" for line in lines)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description="Measure the steps from a diagnosis table to examples.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[2_000], help="sizes of tables")
    parser.add_argument("--subset", type=int, default=1_000, help="patients for the loops in Python")
    parser.add_argument("--runs", type=int, default=1, help="number of runs, of which the fastest counts")
    parser.add_argument("--memory-limit", default="2GB", help="memory limit of DuckDB")
    parser.add_argument("--max-seq-length", type=int, default=128, help="length of the examples")
    parser.add_argument(
        "--processes", type=int, nargs="+", default=[1, 2], help="numbers of processes of `features`"
    )
    parser.add_argument("--spark", action="store_true", help="also measure Spark")
    parser.add_argument(
        "--work", type=Path, help="folder in which the data are kept; by default a temporary folder"
    )
    parser.add_argument("--json", type=Path, help="file to write the measurements to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        by_size = [measure(patients, work, options) for patients in options.patients]
    measurements = [measurement for group in by_size for measurement in group]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores; load at the end {load}\n\n{table(measurements)}\n")
    print("\n".join(map(ratios, by_size)))
    if options.json:
        options.json.write_text(
            json.dumps([asdict(measurement) for measurement in measurements], indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
