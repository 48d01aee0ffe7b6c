"""The config of a TensorFlow 1 checkpoint: the `bert_config.json` of the published programs.

It says nothing of what those programs keep in their code. Further keys say it here, which the programs pass
over:

    layer_norm_eps, stay_pooling    as in `ModelConfig`
    gelu                            "tanh" or "erf": the form of a `hidden_act` of "gelu"
    mask_id, cls_id                 the id that hid codes; the id that led each patient, or null
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ehr_bert.errors import UserError
from ehr_bert.files import read_json
from ehr_bert.model.config import ModelConfig
from ehr_bert.schemas import SpecialToken
from ehr_bert.settings import Natural, Settings
from ehr_bert.weights.tensorflow1_graph import graph_file, graph_settings

OURS = {"layer_norm_eps", "stay_pooling", "pad_token_id"}
"""Keys of `ModelConfig` that the published config lacks."""

PUBLISHED = {field.name for field in fields(ModelConfig)} - OURS

GELU_FORMS = {"tanh": "gelu_new", "erf": "gelu"}
"""The form of `gelu`, and its name in `ModelConfig`. The published programs compute the first."""

IN_PUBLISHED_CODE = {"layer_norm_eps": 1e-12, "hidden_act": GELU_FORMS["tanh"]}
"""What google-research/bert computes, whatever the config says of it."""


@dataclass(frozen=True)
class Conventions(Settings):
    """What the ids of a TensorFlow 1 model mean.

    Attributes:
        mask_id: The id that hid a code; None if that is unknown.
        cls_id: The id that led each patient; None if none did, or if that is unknown.
    """

    mask_id: Natural | None
    cls_id: Natural | None

    @property
    def codes_lead(self) -> bool:
        """Whether a patient's first position is known to be a code."""
        return self.mask_id is not None and self.cls_id is None


def read_config(
    file: Path, checkpoint: Path, ids: Mapping[str, int] | None
) -> tuple[ModelConfig, Conventions]:
    """A model's shape and what its ids mean, by its config, its graph and its vocabulary, or as published.

    Args:
        file: Its `bert_config.json`.
        checkpoint: The prefix of the checkpoint, beside which its graph may lie.
        ids: The ids of the tokens that it was trained with, if they are known.

    Raises:
        UserError: the file is missing, a key is missing or doesn't fit, or config and graph differ.
    """
    values = read_json(file)
    for key in sorted(PUBLISHED):
        if values.get(key) is None:
            raise UserError(f"{file} says no {key}: name the config that the model was trained with")
    try:
        said = _said(values)
        shape = ModelConfig.from_dict({key: values[key] for key in PUBLISHED} | IN_PUBLISHED_CODE | said)
        conventions = _conventions(values, ids, shape.vocab_size or 0)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    graph = graph_settings(checkpoint)
    for key in sorted(said.keys() & graph.keys()):
        if said[key] != graph[key]:
            raise UserError(
                f"{file} says {key} = {said[key]}, the graph {graph_file(checkpoint)} computes {graph[key]}: "
                "correct the config"
            )
    if untold := IN_PUBLISHED_CODE.keys() - said.keys() - graph.keys():
        print(
            f"no graph {graph_file(checkpoint)} tells {' and '.join(sorted(untold))}: taken as published, "
            f"layer_norm_eps 1e-12 and gelu in its tanh form (the keys layer_norm_eps and gelu in {file} say "
            "otherwise)"
        )
    reads: dict[str, Any] = {"stay_pooling": "first" if conventions.codes_lead else "cls"}
    return dataclasses.replace(shape, **reads | graph | said), conventions


def _conventions(values: Mapping[str, Any], ids: Mapping[str, int] | None, rows: int) -> Conventions:
    """What the config says, or else what follows from the tokens that have rows.

    Without a `[MASK]` among them id 0 hid codes, as in Med-BERT; without a `[CLS]` none led patients.
    """
    own = {token: index for token, index in (ids or {}).items() if index < rows}
    conventions = Conventions(
        mask_id=values.get("mask_id", own.get(SpecialToken.MASK, 0 if ids else None)),
        cls_id=values.get("cls_id", own.get(SpecialToken.CLS)),
    )
    for key, index in vars(conventions).items():
        if index is not None and index >= rows:
            raise UserError(f"{key} is {index}, and the model has {rows} tokens")
    return conventions


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the config states of what the published programs keep in their code."""
    said = {key: values[key] for key in ("layer_norm_eps", "stay_pooling") if key in values}
    activation = str(values["hidden_act"]).lower()
    form = values.get("gelu")
    if form not in (None, *GELU_FORMS):
        raise UserError(f"gelu must be one of {', '.join(GELU_FORMS)}, not {form}")
    if activation != "gelu":
        return said | {"hidden_act": activation}
    return said | {"hidden_act": GELU_FORMS[form]} if form else said


def published_config(config: ModelConfig, conventions: Conventions) -> dict[str, Any]:
    """The config that the published programs read, and the further keys; `read_config` reads it back."""
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
