"""Table of the plan of a training run."""

from collections.abc import Callable, Iterable

from ehr_bert.report.markdown import markdown_table
from ehr_bert.training.plan import PhaseWork, Plan


def plan_table(plan: Plan, seconds: Callable[[PhaseWork], float] | None = None) -> str:
    """Return a Markdown table of work, memory and time, by phase and in total.

    Args:
        plan: Plan of the training run.
        seconds: Returns the duration of a phase. If None, the table has no time.
    """
    phases = plan.phases

    def summed(title: str, values: Iterable[float], shown: Callable[[float], str]) -> list[str]:
        by_phase = list(values)
        return [title, *map(shown, by_phase), shown(sum(by_phase))]

    def largest(title: str, values: Iterable[int]) -> list[str]:
        by_phase = list(values)
        return [title, *map(_gigabytes, by_phase), _gigabytes(max(by_phase))]

    rows = [
        summed("updates", (phase.updates for phase in phases), _whole),
        ["longest window", *(f"{phase.layout.windows[-1][1]:,}" for phase in phases), ""],
        ["micro-batches per device", *(f"{phase.micro_batches:,}" for phase in phases), ""],
        summed("patients" if plan.of_patients else "windows", (phase.examples for phase in phases), _whole),
        summed("positions", (phase.positions for phase in phases), _whole),
        summed("real tokens", (phase.real_tokens for phase in phases), _whole),
        *(
            summed(f"predictions: {title}", (phase.predictions[title] for phase in phases), _whole)
            for title in phases[0].predictions
        ),
        summed("operations (FLOPs)", (phase.flops for phase in phases), "{:.3g}".format),
        largest("minimum memory per device, GB", (phase.memory.total for phase in phases)),
        largest("· weights", (phase.memory.weights for phase in phases)),
        largest("· gradients", (phase.memory.gradients for phase in phases)),
        largest("· moments", (phase.memory.moments for phase in phases)),
        largest("· activations", (phase.memory.activations for phase in phases)),
    ]
    if seconds:
        rows.append(summed("time", map(seconds, phases), _time))
    titles = [f"phase {number}" for number in range(1, len(phases) + 1)]
    vocabulary = plan.config.vocab_size
    codes = f"vocabulary of {vocabulary:,}" if vocabulary else "without the vocabulary, whose size is unknown"
    devices = f"{plan.devices} device{'s' if plan.devices > 1 else ''}"
    head = f"{plan.parameters:,} parameters, {codes}; {plan.precision} on {devices}"
    return f"{head}\n\n{markdown_table(['', *titles, 'total'], rows)}"


def _whole(number: float) -> str:
    return f"{round(number):,}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
