"""What must be known of the test examples to sum up the runs of a grid, beside their predictions; no ids."""

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
    """`T` test examples.

    Attributes:
        labels: 0 or 1: int64 `[T]`.
        patients: Whose each is, by number: int64 `[T]`.
        groups: Who is in which group, by its name: bool `[T]`.
        risks: The true risk of each, where the data's maker knows it: float64 `[T]`.
    """

    labels: np.ndarray
    patients: np.ndarray
    groups: dict[str, np.ndarray]
    risks: np.ndarray | None

    @classmethod
    def of(cls, problem: Problem, cohort: Path) -> "HeldOut":
        """That of a problem: `cohort` is the folder, where the risks may lie."""
        test = problem.sides(None, 0).test
        risks = None
        if (cohort / RISK_FILE).exists():
            risks = pq.read_table(cohort / RISK_FILE)[RISK].to_numpy()[problem.rows[test]]
        return cls(problem.labels[test], problem.patients[test], subgroups(problem.cohort.take(test)), risks)

    @property
    def patients_are_distinct(self) -> bool:
        """Whether each example is of another patient."""
        return len(np.unique(self.patients)) == len(self.patients)

    @property
    def best_attainable_auroc(self) -> float | None:
        """The AUROC of the true risks, if they are known."""
        return None if self.risks is None else auroc_of(self.labels, self.risks)

    def write(self, folder: Path) -> None:
        """Into a grid's folder."""
        arrays = {"labels": self.labels, "patients": self.patients}
        arrays |= {_GROUP + name: members for name, members in self.groups.items()}
        if self.risks is not None:
            arrays["risks"] = self.risks
        write_arrays(folder / TEST_FILE, arrays)

    @classmethod
    def read(cls, folder: Path) -> "HeldOut":
        """What `write` left.

        Raises:
            UserError: the folder is no grid's, or the file is damaged.
        """
        if not (folder / TEST_FILE).exists():
            raise UserError(f"{folder} holds no {TEST_FILE}: name a folder that `ehr-bert finetune` wrote")
        try:
            arrays = read_arrays(folder / TEST_FILE)
        except UserError as error:
            raise UserError(f"{error}: `ehr-bert finetune` writes it again") from error
        if not {"labels", "patients"} <= arrays.keys():
            raise UserError(f"{folder / TEST_FILE} is another file: `ehr-bert finetune` writes it again")
        groups = {
            name.removeprefix(_GROUP): array for name, array in arrays.items() if name.startswith(_GROUP)
        }
        return cls(arrays["labels"], arrays["patients"], groups, arrays.get("risks"))
