"""Results of the leakage audit."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from ehr_bert.schemas import LABEL


class AuditLevel(StrEnum):
    """Result of an audit check. A cohort with a `FAIL` is not written."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


class Violations(NamedTuple):
    """Violations that a check found.

    Attributes:
        number: Number of violations.
        detail: Text to print instead of the number, such as a measured AUROC.
    """

    number: int
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        id: Stable identifier of the check.
        statement: The condition that was checked.
        violations: Number of violations, 0 if the condition holds.
        detail: The number of violations or the measured value, as text.
        severity: Level of a violation: `FAIL`, or `WARN` if a person must judge it.
        task: Name of the task, None if the check is about the whole cohort.
    """

    id: str
    statement: str
    violations: int
    detail: str
    severity: AuditLevel = AuditLevel.FAIL
    task: str | None = None

    @property
    def level(self) -> AuditLevel:
        """`PASS`, or the severity if there are violations."""
        return self.severity if self.violations else AuditLevel.PASS

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON values."""
        return {
            "id": self.id,
            "level": self.level.value,
            "task": self.task,
            "check": self.statement,
            "ok": self.level == AuditLevel.PASS,
            "violations": self.violations,
            "detail": self.detail,
            "is_warning": self.severity == AuditLevel.WARN,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Finding":
        """Return the finding that `to_dict` converted."""
        return cls(
            values["id"],
            values["check"],
            values["violations"],
            values["detail"],
            AuditLevel.WARN if values["is_warning"] else AuditLevel.FAIL,
            values["task"],
        )

    def __str__(self) -> str:
        task = f" ({self.task})" if self.task not in (None, LABEL) else ""
        return f"{self.level} {self.id}{task}: {self.statement} ({self.detail})"


def violation_count(count: int) -> str:
    """Return a number of violations as text.

    Example:
        >>> violation_count(1)
        '1 violation'
    """
    return f"{count:,} violation{'' if count == 1 else 's'}"
