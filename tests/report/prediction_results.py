"""Results as `results.json` holds them, of made-up figures."""

import numpy as np

from ehr_bert.metrics.metric import METRICS

MODELS = ("logistic_regression", "pretrained_gru", "frozen_cls")
SIZES = (250, 1000)


def interval(value, reach=0.02):
    return {"value": value, "low": value - reach, "high": value + reach, "deviation": reach / 4}


def results(best_attainable=0.81):
    table = []
    for place, model in enumerate(MODELS):
        for size in SIZES:
            value = 0.6 + 0.03 * place + size / 50_000
            row = {"model": model, "size": size, "seeds": 3, "valid_auroc": value + 0.01}
            row |= {key: interval(value) for key in METRICS}
            if place == 0:
                row["delong"] = None
            else:
                row["delong"] = {
                    "baseline": "logistic_regression",
                    "difference": 0.03 * place,
                    "low": 0.01,
                    "high": 0.09,
                    "p_value": 0.04 / 100**place,
                }
            table.append(row)
    side = {"patients": 1200, "examples": 1300, "labels": {"label": 1299}, "positives": {"label": 99}}
    return {
        "task": "label",
        "cohort": {"splits": {"train": side, "test": side}},
        "test": {"patients": 1299, "examples": 1299, "positives": 99},
        "replicates": 1000,
        "table": table,
        "subgroups": [
            {"group": group, "model": model, "examples": 1040, "positives": 77, "auroc": interval(0.7)}
            for group in ("sex F", "sex M")
            for model in MODELS[:2]
        ],
        "best_attainable_auroc": best_attainable,
    }


def curves(examples=157):
    random = np.random.default_rng(0)
    labels = (random.random(examples) < 0.3).astype(float)
    return {model: (labels, random.random(examples) * 0.6 + 0.2 * labels) for model in MODELS}
