"""How fast pretraining is, against PyTorch: real tokens a second at an equal batch of patients.

    python benchmarks/pretraining.py --patients 20000 --rounds 3 --json pretraining.json
    python benchmarks/pretraining.py --rivals packed --sizes 10000 100000 1000000

The model has Med-BERT's shape and 82,603 rows in its table of codes; patients are simulated; 15% of the codes
are masked. Rivals:

    stock      in PyTorch, Transformers' BertForPreTraining as its Trainer runs it
    tuned      in PyTorch, the same model: a compiled head that sees the masked positions alone, memory kept
    compiled   in PyTorch, the same with the encoder compiled too
    padded     this project on the tutorial's examples: one patient a window of 512
    packed     this project on packed windows
    input      the packed examples alone, without a model, where there is input_pipeline.py

torch_pretraining.py holds the first three. Each turn of a rival is a process of its own. In each round every
rival has its turn, one after the other, so that the speed of the machine drifts for all. Prints a Markdown
table and ratios, over the updates of all rounds.

Run it on a quiet machine: PyTorch's threads wait for each other, and other work hurts them most. The last
column of the table says what share of all cores other work had.
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
"""For glibc to keep freed memory, in large pages: PyTorch asks for the same again in each update."""


@dataclass(frozen=True)
class Measurement:
    """One turn of a rival.

    Attributes:
        rival: Its name.
        precision: Of the computation.
        patients: Simulated patients.
        turn: The round, from 0.
        seconds: Of each update.
        real_tokens: Of each update, padding not counted.
        others: Share of all cores that other work had.
        peak_memory_bytes: Of its process, where it tells.
        model_flops_utilisation: Where it tells.
    """

    rival: str
    precision: str
    patients: int
    turn: int
    seconds: list[float]
    real_tokens: list[float]
    others: float
    peak_memory_bytes: int | None = None
    model_flops_utilisation: float | None = None

    @property
    def rates(self) -> list[float]:
        """Real tokens a second, of each update."""
        return [tokens / seconds for tokens, seconds in zip(self.real_tokens, self.seconds, strict=True)]


def run(*command: object, **environment: str) -> tuple[str, float]:
    """Runs a command; gives its output, and the share of all cores that other work had meanwhile."""
    start, busy, own = time.monotonic(), busy_seconds(), children_seconds()
    done = subprocess.run(
        list(map(str, command)), env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    others = busy_seconds() - busy - (children_seconds() - own)
    return done.stdout, max(0.0, others / (time.monotonic() - start) / (os.cpu_count() or 1))


def busy_seconds() -> float:
    """Time that this machine's cores have worked, or were withheld by its host."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _, _, interrupts, soft_interrupts, stolen = map(int, file.readline().split()[1:9])
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    """CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Data:
    """Simulated patients, made once, in a folder that is kept or not."""

    work: Path
    patients: int

    def made(self, kind: str, *command: object) -> Path:
        """What a stage makes; `command` lacks the stage's output, which comes last."""
        path = self.work / f"{kind}-{self.patients}"
        if not path.exists():
            run(*EHR_BERT, *command, path)
        return path

    @property
    def sequences(self) -> Path:
        """One row a patient."""
        simulated = self.made("simulated", "simulate", "--patients", self.patients)
        return self.made("sequences", "preprocess", simulated / "data_file.tsv")

    @property
    def padded(self) -> Path:
        """The tutorial's examples."""
        return self.made("padded", "features", "--tutorial", "--max-seq-length", 512, self.sequences)

    @property
    def packed(self) -> Path:
        """Packed windows."""
        return self.made("packed", "features", "--max-seq-length", 512, self.sequences)


Told = dict[str, Any]
"""Fields of a `Measurement`: what a turn told of itself."""


def in_torch(way: str, data: Data, precision: str, options: argparse.Namespace) -> tuple[Told, float]:
    """A turn of `torch_pretraining.py`; what it told, and the share of other work."""
    output, others = run(
        *(sys.executable, HERE / "torch_pretraining.py", way, data.sequences, "--precision", precision),
        *("--vocab-size", options.vocab_size, "--batch-patients", options.batch_patients),
        *("--warm-up", options.warm_up, "--updates", options.updates),
        **({} if way == "stock" else KEPT_MEMORY),
    )
    return json.loads(output.splitlines()[-1]), others


def ours(kind: str, data: Data, precision: str, options: argparse.Namespace) -> tuple[Told, float]:
    """A turn of `ehr-bert pretrain`, which reports on each update."""
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
        "real_tokens": [rate * each for rate, each in zip(rates, seconds, strict=True)],
        "peak_memory_bytes": summary["peak_memory_bytes"],
        "model_flops_utilisation": summary["model_flops_utilisation"],
    }, others


def input_alone(data: Data, _: str, options: argparse.Namespace) -> tuple[Told, float]:
    """A turn of `input_pipeline.py`, which tells means."""
    files = data.packed.glob("train-*.tfrecord")
    output, others = run(sys.executable, INPUT_PIPELINE, *files, "--batch-patients", options.batch_patients)
    cells = output.splitlines()[-1].replace(",", "").split("|")
    patients_rate, tokens_rate = map(float, cells[3:5])
    seconds = options.batch_patients / patients_rate
    return {"seconds": [seconds], "real_tokens": [tokens_rate * seconds]}, others


RIVALS: dict[str, Callable[[Data, str, argparse.Namespace], tuple[Told, float]]] = {
    "stock": partial(in_torch, "stock"),
    "tuned": partial(in_torch, "tuned"),
    "compiled": partial(in_torch, "compiled"),
    "padded": partial(ours, "padded"),
    "packed": partial(ours, "packed"),
    "input": input_alone,
}

Contender = tuple[str, str, Data]
"""A rival, the precision of its computation, and its data."""


def contenders(work: Path, options: argparse.Namespace) -> list[Contender]:
    """Who has a turn in each round."""
    rivals = [(rival, options.patients) for rival in options.rivals]
    sized = [("packed", size) for size in options.sizes]
    return [
        (rival, precision, Data(work, patients))
        for rival, patients in dict.fromkeys(rivals + sized)
        for precision in ([""] if rival == "input" else options.precisions)
    ]


def measure(work: Path, options: argparse.Namespace) -> list[Measurement]:
    """All rounds; every other one goes backwards. What was measured is written after each turn."""
    order = contenders(work, options)
    found = []
    for turn in range(options.rounds):
        for rival, precision, data in order if turn % 2 == 0 else reversed(order):
            told, others = RIVALS[rival](data, precision, options)
            measurement = Measurement(rival, precision, data.patients, turn, others=others, **told)
            print(f"round {turn + 1}: {Result([measurement]).row()}", file=sys.stderr, flush=True)
            found.append(measurement)
            if options.json:
                options.json.write_text(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    return found


@dataclass(frozen=True)
class Result:
    """All turns of a contender."""

    turns: list[Measurement]

    @property
    def name(self) -> str:
        """Rival and precision."""
        return f"{self.turns[0].rival} {self.turns[0].precision}".strip()

    @property
    def patients(self) -> int:
        """Simulated patients."""
        return self.turns[0].patients

    @property
    def real_tokens_per_second(self) -> float:
        """The median over the updates of all turns."""
        return statistics.median(rate for turn in self.turns for rate in turn.rates)

    def row(self) -> str:
        """A row of the table."""
        first = self.turns[0]
        seconds = statistics.median(each for turn in self.turns for each in turn.seconds)
        tokens = statistics.mean(each for turn in self.turns for each in turn.real_tokens)
        memory = [turn.peak_memory_bytes for turn in self.turns if turn.peak_memory_bytes]
        used = [turn.model_flops_utilisation for turn in self.turns if turn.model_flops_utilisation]
        cells = (
            f"{self.patients:,}",
            first.rival,
            first.precision,
            f"{seconds:.3g}",
            f"{tokens:,.0f}",
            f"{self.real_tokens_per_second:,.0f}",
            f"{statistics.median(used):.0%}" if used else "",
            f"{max(memory) / 1e6:,.0f}" if memory else "",
            f"{statistics.median(turn.others for turn in self.turns):.0%}",
        )
        return f"| {' | '.join(cells)} |"

    def times(self, other: "Result") -> str:
        """How many times as fast as another it is: over all updates, and in each round."""
        rounds = [
            statistics.median(mine.rates) / statistics.median(theirs.rates)
            for mine, theirs in zip(self.turns, other.turns, strict=True)
        ]
        spread = f" ({min(rounds):.2f} to {max(rounds):.2f} by round)" if len(rounds) > 1 else ""
        return f"{self.real_tokens_per_second / other.real_tokens_per_second:.2f} x{spread}"


def results(found: list[Measurement]) -> list[Result]:
    """The turns of each contender, in their order of rounds."""
    by_contender: dict[tuple[str, str, int], list[Measurement]] = {}
    for each in found:
        by_contender.setdefault((each.rival, each.precision, each.patients), []).append(each)
    return [Result(turns) for turns in by_contender.values()]


def table(measured: list[Result]) -> str:
    """The results in Markdown."""
    return "\n".join(
        (
            "| patients | rival | precision | seconds an update | real tokens an update "
            "| real tokens a second | FLOPs used | peak MB | other work |",
            "|--:|---|---|--:|--:|--:|--:|--:|--:|",
            *(result.row() for result in measured),
        )
    )


def ratios(measured: list[Result], patients: int) -> list[str]:
    """What packed windows are to each rival's best, and many patients to few."""
    best: dict[str, Result] = {}
    for result in sorted(measured, key=lambda each: each.real_tokens_per_second):
        if result.patients == patients:
            best[result.turns[0].rival] = result
    packed = best.pop("packed", None)
    lines = [
        f"{packed.name}: {packed.times(other)} the real tokens a second of {other.name}"
        for other in best.values()
        if packed
    ]
    of_precision: dict[str, list[Result]] = {}
    for result in sorted(measured, key=lambda each: each.patients):
        if result.turns[0].rival == "packed":
            of_precision.setdefault(result.name, []).append(result)
    lines += [
        f"{name}, {larger.patients:,} patients: {larger.times(smallest)} the real tokens a second of "
        f"{smallest.patients:,}"
        for name, (smallest, *others) in of_precision.items()
        for larger in others
    ]
    return [f"- {line}" for line in lines]


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(
        description="Measure the speed of pretraining.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = [rival for rival in RIVALS if rival != "input" or INPUT_PIPELINE.exists()]
    parser.add_argument("--patients", type=int, default=20_000, help="to simulate")
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="patients, for `packed` at each size too",
    )
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=default)
    parser.add_argument(
        "--precisions", nargs="+", choices=("float32", "bfloat16"), default=["float32", "bfloat16"]
    )
    parser.add_argument("--batch-patients", type=int, default=256, help="patients an update")
    parser.add_argument("--warm-up", type=int, default=2, help="updates of a turn before those that count")
    parser.add_argument("--updates", type=int, default=5, help="updates of a turn that count")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each rival")
    parser.add_argument("--vocab-size", type=int, default=82_603, help="rows of the table of codes")
    parser.add_argument("--work", type=Path, help="folder for the data, kept; without it a temporary one")
    parser.add_argument("--json", type=Path, help="file to write the measurements to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        found = measure(work, options)
    measured = results(found)
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "torch", "transformers"))
    print(f"{os.cpu_count()} cores; {versions}\n\n{table(measured)}\n")
    print("\n".join(ratios(measured, options.patients)))


if __name__ == "__main__":
    main()
