"""The config of a TensorFlow 1 checkpoint: `bert_config.json` of the published programs.

Those programs hard-code some settings. The following additional keys state them here, and the programs ignore
these keys:

    layer_norm_eps, stay_pooling    as in `ModelConfig`
    gelu                            "tanh" or "erf": the form of a `hidden_act` of "gelu"
    mask_id, cls_id                 id of masked codes; id at the start of each patient, or null
"""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError
from ehr_bert.files import read_json
from ehr_bert.logs import warn
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SpecialToken
from ehr_bert.settings import Natural, Settings
from ehr_bert.weights.tensorflow1_graph import graph_file, graph_settings

logger = logging.getLogger(__name__)

UNPUBLISHED = {"layer_norm_eps", "stay_pooling", "pad_token_id"}
"""Keys of `ModelConfig` that are not in the published config."""

PUBLISHED = {field.name for field in fields(ModelConfig)} - UNPUBLISHED

GELU_FORMS = {"tanh": "gelu_new", "erf": "gelu"}
"""The form of `gelu` and its name in `ModelConfig`. The published programs use the first."""

IN_PUBLISHED_CODE = {"layer_norm_eps": 1e-12, "hidden_act": GELU_FORMS["tanh"]}
"""Settings that google-research/bert hard-codes."""


@dataclass(frozen=True)
class Conventions(Settings):
    """The meaning of ids in a TensorFlow 1 model.

    Attributes:
        mask_id: Id of masked codes. None if it is unknown.
        cls_id: Id at the start of each patient. None if there is none or if it is unknown.
    """

    mask_id: Natural | None
    cls_id: Natural | None

    @property
    def starts_with_code(self) -> bool:
        """Whether the first position of a patient is known to be a code."""
        return self.mask_id is not None and self.cls_id is None


def read_config(
    file: Path, checkpoint: Path, ids: Mapping[str, int] | None
) -> tuple[ModelConfig, Conventions]:
    """Return the shape of a model and the meaning of its ids.

    They follow from its config, its graph and its vocabulary, or else from the published programs.

    Args:
        file: `bert_config.json` of the model.
        checkpoint: Prefix of the checkpoint. Its graph may be next to it.
        ids: Ids of the tokens that the model was trained with, if they are known.

    Raises:
        UserError: The file is missing (key `unreadable-file`), a key is missing (`missing-setting`) or has an
            invalid value, or config and graph differ (`config-mismatch`).
    """
    values = read_json(file)
    for key in sorted(PUBLISHED):
        if values.get(key) is None:
            raise UserError(
                "missing-setting", f"{file} has no {key}. Name the config that the model was trained with."
            )
    try:
        stated = _stated_settings(values)
        shape = ModelConfig.from_dict({key: values[key] for key in PUBLISHED} | IN_PUBLISHED_CODE | stated)
        conventions = _conventions(values, ids, shape.vocab_size or 0)
    except UserError as error:
        raise error.prefixed(f"{file}: ") from None
    graph = graph_settings(checkpoint)
    for key in sorted(stated.keys() & graph.keys()):
        if stated[key] != graph[key]:
            raise UserError(
                "config-mismatch",
                f"{key} is {stated[key]} in {file}, but {graph[key]} in the graph {graph_file(checkpoint)}. "
                "Correct the config.",
            )
    if unknown := IN_PUBLISHED_CODE.keys() - stated.keys() - graph.keys():
        warn(
            logger,
            "assumed-settings",
            f"{' and '.join(sorted(unknown))} cannot be read because there is no graph "
            f"{graph_file(checkpoint)}. The published values are used: layer_norm_eps 1e-12 and gelu in its "
            f"tanh form. To change them, add layer_norm_eps and gelu to {file}.",
        )
    pooling: dict[str, Any] = {"stay_pooling": "first" if conventions.starts_with_code else "cls"}
    return dataclasses.replace(shape, **pooling | graph | stated), conventions


def _conventions(values: Mapping[str, Any], ids: Mapping[str, int] | None, rows: int) -> Conventions:
    """Return the ids in the config, or else the ids that follow from the tokens with rows.

    Without a `[MASK]` token, masked codes have id 0, as in Med-BERT. Without a `[CLS]` token, patients start
    with a code.
    """
    ids_with_rows = {token: index for token, index in (ids or {}).items() if index < rows}
    conventions = Conventions(
        mask_id=values.get("mask_id", ids_with_rows.get(SpecialToken.MASK, 0 if ids else None)),
        cls_id=values.get("cls_id", ids_with_rows.get(SpecialToken.CLS)),
    )
    for key, index in vars(conventions).items():
        if index is not None and index >= rows:
            raise UserError(
                "ids-out-of-range", f"{key} is {index}, but the model has {rows} tokens. Correct the id."
            )
    return conventions


def _stated_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings in the config that the published programs hard-code."""
    stated = {key: values[key] for key in ("layer_norm_eps", "stay_pooling") if key in values}
    activation = str(values["hidden_act"]).lower()
    form = values.get("gelu")
    if form not in (None, *GELU_FORMS):
        raise UserError("invalid-setting", f"gelu is {form}. Set it to one of {', '.join(GELU_FORMS)}.")
    if activation != "gelu":
        return stated | {"hidden_act": activation}
    return stated | {"hidden_act": GELU_FORMS[form]} if form else stated


def published_config(config: ModelConfig, conventions: Conventions) -> dict[str, Any]:
    """Return the config for the published programs with the additional keys. `read_config` reads it back."""
    values = config.to_dict()
    forms = {name: form for form, name in GELU_FORMS.items()}
    form = {"gelu": forms[config.hidden_act]} if config.hidden_act in forms else {}
    return {
        **{key: values[key] for key in values if key in PUBLISHED},
        "hidden_act": "gelu" if form else config.hidden_act,
        **form,
        "layer_norm_eps": config.layer_norm_eps,
        "stay_pooling": config.stay_pooling,
        "mask_id": conventions.mask_id,
        "cls_id": conventions.cls_id,
    }
