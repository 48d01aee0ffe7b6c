"""Labels and groups of the test examples, without patient ids, to compute the results from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ehr_bert.cohorts.folder import RISK_FILE
from ehr_bert.cohorts.label_files import RISK
from ehr_bert.cohorts.subgroups import subgroups
from ehr_bert.errors import UserError
from ehr_bert.metrics.summary import auroc_of
from ehr_bert.prediction.arrays import read_arrays, write_arrays
from ehr_bert.prediction.contenders.problem import Problem

TEST_FILE = "test.npz"
_GROUP = "group: "


@dataclass(frozen=True)
class HeldOut:
    """`N` test examples.

    Attributes:
        labels: 0 or 1: int64 `[N]`.
        patients: Number of the patient of each example: int64 `[N]`.
        groups: Membership of each subgroup by its name: bool `[N]`.
        risks: True risk of each example, if the data are simulated: float64 `[N]`.
    """

    labels: np.ndarray
    patients: np.ndarray
    groups: dict[str, np.ndarray]
    risks: np.ndarray | None

    @classmethod
    def of(cls, problem: Problem, cohort: Path) -> "HeldOut":
        """Return the test examples of a problem; `cohort` is its folder, which may contain true risks."""
        test = problem.split_rows(None, 0).test
        risks = None
        if (cohort / RISK_FILE).exists():
            risks = pq.read_table(cohort / RISK_FILE)[RISK].to_numpy()[problem.rows[test]]
        return cls(problem.labels[test], problem.patients[test], subgroups(problem.cohort.take(test)), risks)

    @property
    def patients_are_distinct(self) -> bool:
        """Whether each example belongs to a different patient."""
        return len(np.unique(self.patients)) == len(self.patients)

    @property
    def best_attainable_auroc(self) -> float | None:
        """AUROC of the true risks, None if they are unknown."""
        return None if self.risks is None else auroc_of(self.labels, self.risks)

    def write(self, folder: Path) -> None:
        """Write the examples to the folder of a comparison."""
        arrays = {"labels": self.labels, "patients": self.patients}
        arrays |= {_GROUP + name: members for name, members in self.groups.items()}
        if self.risks is not None:
            arrays["risks"] = self.risks
        write_arrays(folder / TEST_FILE, arrays)

    @classmethod
    def read(cls, folder: Path) -> "HeldOut":
        """Read the examples from the folder of a comparison.

        Raises:
            UserError: The folder is not a comparison (key `not-a-comparison`), or the file is damaged
                (`damaged-test-labels`).
        """
        path = folder / TEST_FILE
        if not path.exists():
            raise UserError(
                "not-a-comparison",
                f"{folder} was not written by finetune (no {TEST_FILE}). Choose an output folder of "
                "`ehr-bert finetune`.",
            )
        try:
            arrays = read_arrays(path)
        except UserError as error:
            raise _damaged(path) from error
        if not {"labels", "patients"} <= arrays.keys():
            raise _damaged(path)
        groups = {
            name.removeprefix(_GROUP): array for name, array in arrays.items() if name.startswith(_GROUP)
        }
        return cls(arrays["labels"], arrays["patients"], groups, arrays.get("risks"))


def _damaged(path: Path) -> UserError:
    return UserError(
        "damaged-test-labels", f"{path} is damaged. Run `ehr-bert finetune` again, which writes it."
    )
