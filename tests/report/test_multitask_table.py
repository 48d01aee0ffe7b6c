from ehr_bert.report.multitask_table import HOW_TO_READ, multitask_report


def interval(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


RESULTS = {
    "tasks": [
        {
            "name": "again",
            "kind": "visits",
            "joint": False,
            "outputs": 9,
            "min_positives": 10,
            "examples": {"train": 1234, "valid": 5, "test": 67},
            "test_positives": 19,
            "labels_of_unread_visits": 8,
        }
    ],
    "records": [{"seed": 1}, {"seed": 2}],
    "table": [
        {
            "task": "again",
            "stage": "single",
            "test": {"auroc": interval(0.7, 0.61, 0.79), "brier": interval(0.1), "spare": interval(1.0)},
            "over_single": None,
        },
        {
            "task": "again",
            "stage": "fine_tuned",
            "test": {"auroc": interval(None), "brier": interval(0.2, 0.1, 0.3)},
            "over_single": {"auroc": interval(0.012, -0.1, 0.1)},
        },
    ],
}

REPORT = f"""\
# Multitask training

{HOW_TO_READ}

## again

Visits task with 1,234 training, 5 validation and 67 test examples (19 cases); 2 seeds. 8 labels belong to \
visits that are not read because the history is too long. Not part of the joint training.

| training               |                  AUROC |            Brier score |          AUROC difference |
| ---------------------- | ---------------------: | ---------------------: | ------------------------: |
| single task            | 0.700 (0.610 to 0.790) |                  0.100 |                           |
| joint, then fine-tuned |                        | 0.200 (0.100 to 0.300) | +0.012 (-0.100 to +0.100) |
"""


def test_a_task_has_a_caption_and_a_table():
    assert multitask_report(RESULTS) == REPORT
