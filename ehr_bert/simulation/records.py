"""Records of simulated patients, as every format writes them."""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class SimulatedRecords:
    """Records of some patients, in ascending order of patient and time.

    Attributes:
        patients: `PATIENTS`.
        visits: One row per visit: `visit_id`, an int64 that is unique in the data set; `patient_id`;
            `admitted` and `discharged`, local times to the second; and `inpatient`.
        events: `EVENTS`, and the `visit_id` of each event.
    """

    patients: pa.Table
    visits: pa.Table
    events: pa.Table
