"""How fast and in how much memory a table of diagnoses becomes TFRecord examples, against common ways.

    python benchmarks/scale.py --patients 10000 100000 --json scale.json

Each step runs in a process of its own, start-up included, one after the other on the same machine. Prints a
Markdown table. Peak memory is the resident memory of the step's processes together.
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
    """What one run of a step took.

    Attributes:
        step: What was run.
        patients: Of the whole table.
        count: Rows, or examples, that were worked on.
        seconds: Wall-clock time.
        cpu_seconds: Of all processes; None where the step measures itself.
        peak_mb: Memory.
    """

    step: str
    patients: int
    count: int
    seconds: float
    cpu_seconds: float | None
    peak_mb: float

    @property
    def per_second(self) -> float:
        """Rows or examples a second."""
        return self.count / self.seconds


def resident_bytes(root: int) -> int:
    """Resident memory of a process and all that it started."""
    total, waiting = 0, [root]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            total += int((process / "statm").read_text().split()[1]) * PAGE
            waiting += map(int, (process / "task" / process.name / "children").read_text().split())
        except (OSError, IndexError):
            continue
    return total


def run(*command: object) -> tuple[str, float, float, float]:
    """Runs a command; gives its output, seconds, CPU seconds and peak memory in MB."""
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
    """The fastest of some runs."""
    measured = []
    for _ in range(runs):
        _, seconds, cpu_seconds, peak = run(*command)
        measured.append(Measurement(step, patients, count, seconds, cpu_seconds, peak))
    return min(measured, key=lambda each: each.seconds)


def itself(step: str, patients: int, counted: str, *command: object) -> Measurement:
    """A step that measures itself, on a part of the data."""
    output, _, _, peak = run(*command)
    told = json.loads(output.splitlines()[-1])
    return Measurement(step, patients, told[counted], told["seconds"], None, peak)


def measure(patients: int, work: Path, options: argparse.Namespace) -> list[Measurement]:
    """All steps on a simulated table."""
    command = (sys.executable, "-m", "ehr_bert")
    simulated = work / f"simulated-{patients}"
    if not simulated.exists():
        run(*command, "simulate", simulated, "--patients", patients)
    table = simulated / "data_file.tsv"
    with open(table, "rb") as file:
        rows = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 24), b"")) - 1
    sequences, examples = work / "sequences", work / "examples"
    limit = ("--memory-limit", options.memory_limit)
    shape = ("--tutorial", "--max-seq-length", options.max_seq_length, "--shards", 8)
    preprocess = (*command, "preprocess", table)
    runs = options.runs
    found = [
        itself(
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
        found.append(best(1, "preprocess, Spark", patients, rows, *preprocess, work / "by-spark", *spark))
    shard = next((sequences / "sequences" / "train").glob("*.parquet"))
    found.append(
        itself(
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
        accounts = json.loads((examples / "summary.json").read_text())
        count = sum(account["examples"] for account in accounts.values())
        found.append(Measurement(**asdict(measured) | {"count": count}))
    return found


def table(measurements: list[Measurement]) -> str:
    """The measurements in Markdown."""
    lines = [
        "| patients | step | rows or examples | seconds | CPU seconds | a second | peak MB |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    for each in measurements:
        cpu = f"{each.cpu_seconds:.1f}" if each.cpu_seconds else ""
        lines.append(
            f"| {each.patients:,} | {each.step} | {each.count:,} | {each.seconds:.2f} | {cpu} "
            f"| {each.per_second:,.0f} | {each.peak_mb:,.0f} |"
        )
    return "\n".join(lines)


def ratios(measurements: list[Measurement]) -> str:
    """What the measurements of one table say of each other."""
    step = {each.step: each for each in measurements}
    ours = step["preprocess"]
    lines = [
        f"preprocess: {ours.per_second / step['pandas loop'].per_second:,.0f} x the pandas loop's rows a "
        f"second, {ours.seconds / step['DuckDB sort'].seconds:.2f} x the time of DuckDB's sort; "
        f"pickled {step['preprocess, pickled'].seconds / ours.seconds:.2f} x the time of Parquet",
        *(
            f"{each.step}: {each.per_second / step['tf.train.Example'].per_second:,.1f} x the examples a "
            "second of tf.train.Example"
            for each in measurements
            if each.step.startswith("features")
        ),
    ]
    return "\n".join(f"- {ours.patients:,} patients, {line}" for line in lines)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(
        description="Measure the way from a table of diagnoses to examples.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--patients", type=int, nargs="+", default=[2_000], help="sizes of tables")
    parser.add_argument("--subset", type=int, default=1_000, help="patients for the loops in Python")
    parser.add_argument("--runs", type=int, default=1, help="of which the fastest counts")
    parser.add_argument("--memory-limit", default="2GB", help="DuckDB's")
    parser.add_argument("--max-seq-length", type=int, default=128, help="of the examples")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="of building features")
    parser.add_argument("--spark", action="store_true", help="measure Spark too")
    parser.add_argument("--work", type=Path, help="folder for the data, kept; without it a temporary one")
    parser.add_argument("--json", type=Path, help="file to write the measurements to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        by_size = [measure(patients, work, options) for patients in options.patients]
    found = [each for measurements in by_size for each in measurements]
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"{os.cpu_count()} cores; load at the end {load}\n\n{table(found)}\n")
    print("\n".join(map(ratios, by_size)))
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
