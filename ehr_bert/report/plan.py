"""A plan as a table."""

from collections.abc import Callable, Iterable

from ehr_bert.report.markdown import markdown_table
from ehr_bert.training.plan import PhaseWork, Plan, parameters


def plan_table(plan: Plan, seconds: Callable[[PhaseWork], float] | None = None) -> str:
    """What a training takes, by phase and in all, as Markdown.

    Args:
        plan: The plan.
        seconds: How long a phase takes; no time is told if None.
    """
    phases = plan.phases

    def summed(title: str, values: Iterable[float], shown: Callable[[float], str]) -> list[str]:
        by_phase = list(values)
        return [title, *map(shown, by_phase), shown(sum(by_phase))]

    def largest(title: str, values: Iterable[int]) -> list[str]:
        by_phase = list(values)
        return [title, *map(_gigabytes, by_phase), _gigabytes(max(by_phase))]

    rows = [
        summed("updates", (each.updates for each in phases), _whole),
        ["longest window", *(f"{each.layout.windows[-1][1]:,}" for each in phases), ""],
        ["micro-batches a device", *(f"{each.micro_batches:,}" for each in phases), ""],
        summed("patients" if plan.of_patients else "windows", (each.examples for each in phases), _whole),
        summed("positions", (each.positions for each in phases), _whole),
        summed("real tokens", (each.real_tokens for each in phases), _whole),
        summed("masked codes", (each.masked_codes for each in phases), _whole),
        summed("operations (FLOPs)", (each.flops for each in phases), "{:.3g}".format),
        largest("memory a device, GB, at least", (each.memory.total for each in phases)),
        largest("· weights", (each.memory.weights for each in phases)),
        largest("· gradients", (each.memory.gradients for each in phases)),
        largest("· moments", (each.memory.moments for each in phases)),
        largest("· activations", (each.memory.activations for each in phases)),
    ]
    if seconds:
        rows.append(summed("time", map(seconds, phases), _time))
    titles = [f"phase {number}" for number in range(1, len(phases) + 1)]
    vocabulary = plan.config.vocab_size
    codes = (
        f"a vocabulary of {vocabulary:,}" if vocabulary else "without a vocabulary, whose size is not known"
    )
    devices = f"{plan.devices} device{'s' if plan.devices > 1 else ''}"
    head = f"{parameters(plan.config):,} parameters, {codes}; {plan.precision} on {devices}"
    return f"{head}\n\n{markdown_table(['', *titles, 'in all'], rows)}"


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
