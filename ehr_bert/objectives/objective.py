"""The base class of pretraining objectives.

An objective is one class in one file. It provides the settings of its table in a recipe, its labels, its
head, its loss, its metrics with a baseline, and the number of operations of its head. Heavy libraries are
imported within methods, so that recipes are read without them.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np

from ehr_bert.model.config import ModelConfig
from ehr_bert.settings import Positive, Settings

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from ehr_bert.examples.labels import StoredWindows
    from ehr_bert.examples.source import ExamplesInfo
    from ehr_bert.model.pretraining import BatchTensors, PretrainingModel

TensorsByName = dict[str, "tf.Tensor"]


@dataclass(frozen=True)
class ObjectiveSettings(Settings):
    """Settings that every objective has.

    Attributes:
        enabled: Whether the objective is trained.
        weight: Factor of its loss.
    """

    enabled: bool = True
    weight: Positive = 1.0


_S = TypeVar("_S", bound=ObjectiveSettings)


@dataclass(frozen=True)
class ObjectiveMetric:
    """Presentation of a metric of an objective.

    Attributes:
        key: Name of the metric, as in `Objective.metrics`.
        title: Title in tables and messages.
        lower_is_better: Whether a lower value is better.
        compared: Whether tables that compare recipes have a column for it.
    """

    key: str
    title: str
    lower_is_better: bool = False
    compared: bool = True


class LossWithGradients(NamedTuple):
    """A loss with gradients that the objective computed itself.

    Attributes:
        sums: As `Objective.loss` returns them.
        d_outputs: Gradient of the scaled loss with respect to the head's outputs, in their shape.
        d_variables: Variables of the model with the gradients to add to theirs.
    """

    sums: TensorsByName
    d_outputs: "tf.Tensor"
    d_variables: "list[tuple[keras.Variable, tf.Tensor]]"


class Objective(ABC, Generic[_S]):
    """A pretraining objective with its settings.

    A subclass must define `head`, `flops`, and `loss` or `loss_with_gradients`. Everything else is optional.
    Most define `labels`, `sum_names` and `baseline` too. It is registered under a name, see
    `ehr_bert.objectives.OBJECTIVES`.

    Args:
        name: The registered name.
        settings: Settings from the table of this name in a recipe.

    Attributes:
        settings_type: Class of the settings.
        used_when_disabled: Settings that have an effect although the objective is disabled.
        stock_head: Whether `BertForPreTraining` has the head. Every model has these heads.
        head_inputs: Tensors of a batch that the head reads, apart from those that every batch has.
        weights: Tensor of a batch that holds the weights of the predictions.
        sum_names: Names of the sums that `loss` returns.
        computes_gradients: Whether `loss_with_gradients` is called instead of `loss`.
        shown_metrics: Metrics in messages and tables.
        published_metrics: Metrics in `eval_results.txt`; all if None.
    """

    settings_type: ClassVar[type[ObjectiveSettings]] = ObjectiveSettings
    used_when_disabled: ClassVar[tuple[str, ...]] = ()
    stock_head: ClassVar[bool] = False
    head_inputs: ClassVar[tuple[str, ...]] = ()
    weights: ClassVar[str] = "patient_weights"
    sum_names: ClassVar[tuple[str, ...]] = ("loss",)
    computes_gradients: ClassVar[bool] = False
    shown_metrics: ClassVar[tuple[ObjectiveMetric, ...]] = (
        ObjectiveMetric("loss", "loss", lower_is_better=True),
    )
    published_metrics: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, name: str, settings: _S) -> None:
        self.name = name
        self.settings = settings

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and (other.name, other.settings) == (self.name, self.settings)

    def __hash__(self) -> int:
        return hash((type(self), self.name, self.settings))

    @property
    def title(self) -> str:
        """Name in messages and tables."""
        return self.name.replace("_", " ")

    @property
    def short_title(self) -> str:
        """Name on the progress line."""
        return self.title

    @property
    def prefix(self) -> str:
        """Prefix of the names of its sums and metrics."""
        return self.name

    @property
    def baseline_prefix(self) -> str:
        """Prefix of the names of its baseline's metrics."""
        return f"{self.name}_baseline"

    @property
    def total(self) -> str:
        """Tensor of a batch that holds the sum of the weights over the whole update."""
        return f"{self.weights.removesuffix('_weights')}_total"

    def check_examples(self, info: "ExamplesInfo") -> None:
        """Refuse examples that do not fit the settings, whether or not the objective is enabled.

        Raises:
            UserError: The examples do not fit.
        """

    def labels(self, windows: "StoredWindows") -> TensorsByName:
        """Return the tensors that the objective adds to a batch, by window.

        Args:
            windows: Windows of one length, as they are stored.

        Returns:
            Tensors `[W, ...]` with two axes, such as one number per patient slot. Names begin with the name
            of the objective. `ehr_bert.examples.updates` describes the names that are treated specially.
        """
        return {}

    def expected_count(self, real_tokens: float, patients: float, info: "ExamplesInfo | None") -> float:
        """Return the expected number of predictions.

        Args:
            real_tokens: Number of tokens, without padding.
            patients: Number of patients with these tokens.
            info: Description of the examples, if they are known.
        """
        return patients

    def head(self, config: ModelConfig, **layer_arguments: Any) -> "keras.Layer":
        """Build the head, unless it is a stock head.

        The layer is called with the hidden states, float `[P, H]`, the batch, and `layout=`. Its weights are
        exported unchanged. None may have one row per token, since the export omits rare codes.

        Args:
            config: Shape of the model.
            layer_arguments: Arguments of the Keras layer: its name and its dtype policy.
        """
        raise NotImplementedError(f"{type(self).__name__} has no head")

    @abstractmethod
    def flops(self, config: ModelConfig) -> float:
        """Return the floating-point operations of the head's matrix products per prediction, forward."""

    def loss(self, outputs: "tf.Tensor", batch: "BatchTensors") -> TensorsByName:
        """Return sums over a batch, each under the weights of the predictions.

        Args:
            outputs: Outputs of the head.
            batch: The batch.

        Returns:
            A scalar for each of `sum_names`. `loss` is differentiated. Others, such as `correct`, are
            reported.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def loss_with_gradients(
        self, model: "PretrainingModel", outputs: "tf.Tensor", batch: "BatchTensors", scale: "tf.Tensor"
    ) -> LossWithGradients:
        """Return the loss and its gradients. Called instead of `loss` if `computes_gradients` is true.

        Args:
            model: The model.
            outputs: Outputs of the head.
            batch: The batch.
            scale: Factor of the loss in the update. The gradients contain it; the sums do not.
        """
        raise NotImplementedError(f"{type(self).__name__} does not compute gradients")

    def evaluation_sums(
        self, model: "PretrainingModel", outputs: "tf.Tensor", batch: "BatchTensors"
    ) -> TensorsByName:
        """Return sums over a batch for an evaluation, of any shape.

        The arguments are those of `loss_with_gradients`.
        """
        return self.loss(outputs, batch)

    def predictions(self, outputs: "tf.Tensor", batch: "BatchTensors") -> TensorsByName:
        """Return tensors with one row per prediction that the metrics need, such as scores and labels.

        `metrics` and `baseline` get the rows of the whole evaluation whose weight is above 0.
        """
        return {}

    def metrics(self, sums: Mapping[str, Any], predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return metrics by name.

        Args:
            sums: Sums of the evaluation, with `count`, the sum of the weights. Reports on training have only
                `sum_names` and `count`, and no predictions.
            predictions: Rows of `predictions`.
        """
        count = max(sums["count"], 1)
        names = {"loss": "loss", "correct": "accuracy"}
        return {title: float(sums[name] / count) for name, title in names.items() if name in sums}

    def baseline(
        self, sums: Mapping[str, Any], predictions: Mapping[str, np.ndarray], occurrences: np.ndarray
    ) -> dict[str, float]:
        """Return the metrics of a trivial baseline, under the names of `metrics`.

        Args:
            sums: As in `metrics`.
            predictions: As in `metrics`.
            occurrences: Number of occurrences of each token in the training split, int64 `[V]`; all 0 if
                unknown.
        """
        return {}
