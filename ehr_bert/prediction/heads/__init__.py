"""Prediction heads: from the token vectors of a history to its logits.

A new head is a subclass of `Head` in a file of this package and one line in `HEADS`, or a class in another
installed package with an entry point in the group `ehr_bert.heads`. It can then be chosen by `--head`, and
every family of BERT contenders has a member with it, such as `pretrained_NAME`.
"""

from typing import TYPE_CHECKING

from ehr_bert.registry import Registry

if TYPE_CHECKING:
    from ehr_bert.prediction.heads.head import Head

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
)
"""Classes of the heads by name, in the order in which tables list them."""
