"""Prediction heads: from the token vectors of a history to its logits.

A new head is a subclass of `Head` in a file of this package and one line in `HEADS`, or a class in another
installed package with an entry point in the group `ehr_bert.heads`. It can then be chosen by `--head`, and
every family of BERT contenders has a member with it, such as `pretrained_NAME`.
"""

from typing import TYPE_CHECKING, Any

from ehr_bert.registry import Guard, Registry, with_guards, wrong_class

if TYPE_CHECKING:
    import torch

    from ehr_bert.prediction.heads.head import Head


def _adopted(name: str, loaded: Any, guard: Guard) -> type["Head"] | str:
    from ehr_bert.prediction.heads.head import Head

    return wrong_class(loaded, Head) or with_guards(
        loaded,
        {
            "__init__": guard(loaded.__init__),
            "reduce": guard(loaded.reduce),
            "predict": guard(loaded.predict, _wrong_logits),
        },
    )


def _wrong_logits(logits: Any, head: "Head", reduced: "torch.Tensor", visits: "torch.Tensor") -> str | None:
    expected = (len(visits), head.outputs)
    shape = tuple(getattr(logits, "shape", ())) or type(logits).__name__
    return None if shape == expected else f"returned logits {shape}, not {expected} ([B, O])"


HEADS: Registry[type["Head"]] = Registry(
    "head",
    "ehr_bert.heads",
    {
        "cls": "ehr_bert.prediction.heads.linear:ClsHead",
        "mean": "ehr_bert.prediction.heads.linear:MeanHead",
        "gru": "ehr_bert.prediction.heads.recurrent:GruHead",
        "bigru": "ehr_bert.prediction.heads.recurrent:BiGruHead",
        "retain": "ehr_bert.prediction.heads.retain:RetainHead",
    },
    _adopted,
)
"""Classes of the heads by name, in the order in which tables list them."""
