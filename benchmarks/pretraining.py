"""Compare the speed of pretraining with PyTorch, in real tokens per second at equal patients per update.

    python benchmarks/pretraining.py --patients 20000 --rounds 3 --json pretraining.json
    python benchmarks/pretraining.py --implementations packed --sizes 10000 100000 1000000

The model has Med-BERT's shape and an embedding table of 82,603 rows. Patients are simulated, and 15% of the
codes are masked. Implementations:

    stock      PyTorch: Transformers' BertForPreTraining, as its Trainer runs it
    tuned      PyTorch: the same model with a compiled head on masked positions only, and memory kept
    compiled   PyTorch: the same, with the encoder compiled too
    padded     this project on the tutorial's examples: one patient per window of 512
    packed     this project on packed windows
    input      reading of the packed examples, without a model

torch_pretraining.py contains the first three. Each run is a separate process. Each round runs every
implementation once, so that changes in the speed of the machine affect all. Prints a Markdown table and
ratios, over the updates of all rounds.

Run it on an idle machine: PyTorch's threads wait for each other, so other work slows them down most. The
last column of the table is the share of all cores used by other work.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
EHR_BERT = (sys.executable, "-m", "ehr_bert")
INPUT_PIPELINE = HERE / "input_pipeline.py"

NOT_FREED = str(1 << 40)
KEPT_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": NOT_FREED,
    "MALLOC_MMAP_THRESHOLD_": NOT_FREED,
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Settings of glibc that keep freed memory, in large pages: PyTorch allocates the same in each update."""


@dataclass(frozen=True)
class Measurement:
    """One run of an implementation.

    Attributes:
        implementation: Its name.
        precision: Precision of the computation.
        patients: Number of simulated patients.
        round: The round, from 0.
        seconds: Seconds of each update.
        real_tokens: Tokens of each update, without padding.
        others: Share of all cores used by other work.
        peak_memory_bytes: Peak memory of its process, if it reports it.
        model_flops_utilisation: Share of the device's matrix-product speed, if it reports it.
    """

    implementation: str
    precision: str
    patients: int
    round: int
    seconds: list[float]
    real_tokens: list[float]
    others: float
    peak_memory_bytes: int | None = None
    model_flops_utilisation: float | None = None

    @property
    def rates(self) -> list[float]:
        """Real tokens per second of each update."""
        return [tokens / seconds for tokens, seconds in zip(self.real_tokens, self.seconds, strict=True)]


def run(*command: object, **environment: str) -> tuple[str, float]:
    """Run a command, and return its output and the share of all cores used by other work meanwhile."""
    start, busy, own = time.monotonic(), busy_seconds(), children_seconds()
    done = subprocess.run(
        list(map(str, command)), env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    others = busy_seconds() - busy - (children_seconds() - own)
    return done.stdout, max(0.0, others / (time.monotonic() - start) / (os.cpu_count() or 1))


def busy_seconds() -> float:
    """Return the time that the cores of this machine were busy, or unavailable to it."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, interrupts, soft_interrupts, stolen = map(int, file.readline().split()[1:9])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """Return the CPU time of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Data:
    """Simulated patients, created once in a folder."""

    work: Path
    patients: int

    def created(self, kind: str, *command: object) -> Path:
        """Return the output of a command, which is added as its last argument."""
        path = self.work / f"{kind}-{self.patients}"
        if not path.exists():
            run(*EHR_BERT, *command, path)
        return path

    @property
    def sequences(self) -> Path:
        """Sequences, one row per patient."""
        simulated = self.created("simulated", "simulate", "--version", 1, "--patients", self.patients)
        return self.created("sequences", "preprocess", simulated / "data_file.tsv")

    @property
    def padded(self) -> Path:
        """Examples of the tutorial."""
        return self.created("padded", "features", "--tutorial", "--max-seq-length", 512, self.sequences)

    @property
    def packed(self) -> Path:
        """Packed windows."""
        return self.created("packed", "features", "--max-seq-length", 512, self.sequences)


MeasuredFields = dict[str, Any]
"""Fields of a `Measurement` that a run reports."""


def in_torch(
    implementation: str, data: Data, precision: str, options: argparse.Namespace
) -> tuple[MeasuredFields, float]:
    """Run `torch_pretraining.py`, and return its measurements and the share of other work."""
    output, others = run(
        *(
            sys.executable,
            HERE / "torch_pretraining.py",
            implementation,
            data.sequences,
            "--precision",
            precision,
        ),
        *("--vocab-size", options.vocab_size, "--batch-patients", options.batch_patients),
        *("--warm-up", options.warm_up, "--updates", options.updates),
        **({} if implementation == "stock" else KEPT_MEMORY),
    )
    return json.loads(output.splitlines()[-1]), others


def ours(kind: str, data: Data, precision: str, options: argparse.Namespace) -> tuple[MeasuredFields, float]:
    """Run `ehr-bert pretrain`, which reports on each update."""
    features = data.padded if kind == "padded" else data.packed
    with tempfile.TemporaryDirectory(dir=data.work) as temporary:
        recipe, output = Path(temporary, "recipe.toml"), Path(temporary, "output")
        recipe.write_text(
            f"[model]\nvocab_size = {options.vocab_size}\n\n[evaluation]\nmax_batches = 1\n", encoding="utf-8"
        )
        _, others = run(
            *(*EHR_BERT, "pretrain", "--features", features, "--output", output, "--recipe", recipe),
            *("--precision", precision, "--batch-patients", options.batch_patients),
            *("--steps", options.warm_up + options.updates, "--report-steps", 1),
        )
        summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
        lines = map(json.loads, (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        updates = [line for line in lines if line["step"] > options.warm_up and "train/seconds" in line]
    seconds = [1 / update["train/steps_per_second"] for update in updates]
    rates = [update["train/real_tokens_per_second"] for update in updates]
    return {
        "seconds": seconds,
        "real_tokens": [rate * duration for rate, duration in zip(rates, seconds, strict=True)],
        "peak_memory_bytes": summary["peak_memory_bytes"],
        "model_flops_utilisation": summary["model_flops_utilisation"],
    }, others


def input_alone(data: Data, _: str, options: argparse.Namespace) -> tuple[MeasuredFields, float]:
    """Run `input_pipeline.py`, which reports means."""
    files = data.packed.glob("train-*.tfrecord")
    output, others = run(sys.executable, INPUT_PIPELINE, *files, "--batch-patients", options.batch_patients)
    cells = output.splitlines()[-1].replace(",", "").split("|")
    patients_rate, tokens_rate = map(float, cells[3:5])
    seconds = options.batch_patients / patients_rate
    return {"seconds": [seconds], "real_tokens": [tokens_rate * seconds]}, others


IMPLEMENTATIONS: dict[str, Callable[[Data, str, argparse.Namespace], tuple[MeasuredFields, float]]] = {
    "stock": partial(in_torch, "stock"),
    "tuned": partial(in_torch, "tuned"),
    "compiled": partial(in_torch, "compiled"),
    "padded": partial(ours, "padded"),
    "packed": partial(ours, "packed"),
    "input": input_alone,
}

Variant = tuple[str, str, Data]
"""An implementation, the precision of its computation, and its data."""


def variants(work: Path, options: argparse.Namespace) -> list[Variant]:
    """Return the variants that each round runs."""
    requested = [(implementation, options.patients) for implementation in options.implementations]
    sized = [("packed", size) for size in options.sizes]
    return [
        (implementation, precision, Data(work, patients))
        for implementation, patients in dict.fromkeys(requested + sized)
        for precision in ([""] if implementation == "input" else options.precisions)
    ]


def measure(work: Path, options: argparse.Namespace) -> list[Measurement]:
    """Run all rounds, every second one in reverse order. Results are written after each run."""
    order = variants(work, options)
    measurements = []
    for number in range(options.rounds):
        for implementation, precision, data in order if number % 2 == 0 else reversed(order):
            fields, others = IMPLEMENTATIONS[implementation](data, precision, options)
            measurement = Measurement(
                implementation, precision, data.patients, number, others=others, **fields
            )
            print(f"round {number + 1}: {Result([measurement]).row()}", file=sys.stderr, flush=True)
            measurements.append(measurement)
            if options.json:
                options.json.write_text(
                    json.dumps([asdict(measurement) for measurement in measurements], indent=2) + "\n"
                )
    return measurements


@dataclass(frozen=True)
class Result:
    """All runs of a variant."""

    runs: list[Measurement]

    @property
    def name(self) -> str:
        """Implementation and precision."""
        return f"{self.runs[0].implementation} {self.runs[0].precision}".strip()

    @property
    def patients(self) -> int:
        """Number of simulated patients."""
        return self.runs[0].patients

    @property
    def real_tokens_per_second(self) -> float:
        """Median over the updates of all runs."""
        return statistics.median(rate for run in self.runs for rate in run.rates)

    def row(self) -> str:
        """Return a row of the table."""
        first = self.runs[0]
        seconds = statistics.median(value for run in self.runs for value in run.seconds)
        tokens = statistics.mean(value for run in self.runs for value in run.real_tokens)
        memory = [run.peak_memory_bytes for run in self.runs if run.peak_memory_bytes]
        used = [run.model_flops_utilisation for run in self.runs if run.model_flops_utilisation]
        cells = (
            f"{self.patients:,}",
            first.implementation,
            first.precision,
            f"{seconds:.3g}",
            f"{tokens:,.0f}",
            f"{self.real_tokens_per_second:,.0f}",
            f"{statistics.median(used):.0%}" if used else "",
            f"{max(memory) / 1e6:,.0f}" if memory else "",
            f"{statistics.median(run.others for run in self.runs):.0%}",
        )
        return f"| {' | '.join(cells)} |"

    def times(self, other: "Result") -> str:
        """Return how many times as fast as another result it is, over all updates and by round."""
        rounds = [
            statistics.median(mine.rates) / statistics.median(theirs.rates)
            for mine, theirs in zip(self.runs, other.runs, strict=True)
        ]
        spread = f" ({min(rounds):.2f} to {max(rounds):.2f} by round)" if len(rounds) > 1 else ""
        return f"{self.real_tokens_per_second / other.real_tokens_per_second:.2f} x{spread}"


def results(measurements: list[Measurement]) -> list[Result]:
    """Return the runs of each variant, in the order of rounds."""
    by_variant: dict[tuple[str, str, int], list[Measurement]] = {}
    for measurement in measurements:
        key = measurement.implementation, measurement.precision, measurement.patients
        by_variant.setdefault(key, []).append(measurement)
    return [Result(runs) for runs in by_variant.values()]


def table(measured: list[Result]) -> str:
    """Return the results as a Markdown table."""
    return "\n".join(
        (
            "| patients | implementation | precision | seconds per update | real tokens per update "
            "| real tokens per second | FLOPs used | peak MB | other work |",
            "|--:|---|---|--:|--:|--:|--:|--:|--:|",
            *(result.row() for result in measured),
        )
    )


def ratios(measured: list[Result], patients: int) -> list[str]:
    """Return the speed of packed windows relative to each implementation, and of many patients to few."""
    best: dict[str, Result] = {}
    for result in sorted(measured, key=lambda result: result.real_tokens_per_second):
        if result.patients == patients:
            best[result.runs[0].implementation] = result
    packed = best.pop("packed", None)
    lines = [
        f"{packed.name}: {packed.times(other)} the real tokens per second of {other.name}"
        for other in best.values()
        if packed
    ]
    of_precision: dict[str, list[Result]] = {}
    for result in sorted(measured, key=lambda result: result.patients):
        if result.runs[0].implementation == "packed":
            of_precision.setdefault(result.name, []).append(result)
    lines += [
        f"{name}, {larger.patients:,} patients: {larger.times(smallest)} the real tokens per second of "
        f"{smallest.patients:,}"
        for name, (smallest, *others) in of_precision.items()
        for larger in others
    ]
    return [f"- {line}" for line in lines]


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(
        description="Measure the speed of pretraining.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--patients", type=int, default=20_000, help="number of patients to simulate")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="also run `packed` with these numbers of patients",
    )
    parser.add_argument(
        "--implementations", nargs="+", choices=IMPLEMENTATIONS, default=list(IMPLEMENTATIONS)
    )
    parser.add_argument(
        "--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--batch-patients", type=int, default=256, help="patients per update")
    parser.add_argument("--warm-up", type=int, default=2, help="updates of a run before the measured ones")
    parser.add_argument("--updates", type=int, default=5, help="measured updates of a run")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each implementation")
    parser.add_argument("--vocab-size", type=int, default=82_603, help="rows of the embedding table")
    parser.add_argument(
        "--work", type=Path, help="folder in which the data are kept; by default a temporary folder"
    )
    parser.add_argument("--json", type=Path, help="file to write the measurements to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        measurements = measure(work, options)
    measured = results(measurements)
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "torch", "transformers"))
    print(f"{os.cpu_count()} cores; {versions}\n\n{table(measured)}\n")
    print("\n".join(ratios(measured, options.patients)))


if __name__ == "__main__":
    main()
