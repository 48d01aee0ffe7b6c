"""Export to ONNX, for programs without PyTorch. Needs the extra `onnx`."""

import io
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertForPreTraining

from ehr_bert.errors import UserError
from ehr_bert.export.parity import PARITY_TOLERANCE, stay_pooled

ONNX_FILE = "model.onnx"

ONNX_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ONNX_OUTPUTS = ("prediction_logits", "seq_relationship_logits")

SHAPES = ((3, 7), (2, 11), (1, 2))
"""Shapes `[B, T]` of the histories on which both models are compared. The first is also used for tracing."""

TRACE_FIELDS = ("metadata_props", "doc_string")
"""Fields of ONNX in which PyTorch writes source lines, which include paths of this machine."""


class Logits(torch.nn.Module):
    """Logits of both objectives. The stay head reads the same input as in training (`stay_pooling`).

    Args:
        exported: The PyTorch model.
    """

    def __init__(self, exported: BertForPreTraining):
        super().__init__()
        self.exported = exported

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of a batch.

        Args:
            input_ids: Tokens, int64 `[B, T]`.
            attention_mask: 1 at real positions, int64 `[B, T]`.
            token_type_ids: Visits, int64 `[B, T]`.

        Returns:
            `prediction_logits`, float32 `[B, T, V]`, and `seq_relationship_logits`, float32 `[B, 2]`.
        """
        model = self.exported
        encoded = model.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        pooled = stay_pooled(model, encoded, token_type_ids, attention_mask)
        return model.cls.predictions(encoded.last_hidden_state), model.cls.seq_relationship(pooled)


def write_onnx(exported: BertForPreTraining, file: Path) -> float:
    """Write a model as ONNX, and verify that both compute the same.

    Args:
        exported: The PyTorch model, with dropout off.
        file: The file to write.

    Returns:
        The largest difference between two logits.

    Raises:
        UserError: The extra is not installed (key `missing-extra`), or the logits differ
            (`export-not-equal`).
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  PyTorch writes ONNX with it
    except ImportError as error:
        raise UserError(
            "missing-extra", f"ONNX needs {error.name}. Install it with pip install 'ehr-bert[onnx]'."
        ) from error
    model = Logits(exported).eval()
    axes = {0: "batch_size", 1: "sequence_length"}
    # The exporter reports its steps even if `verbose` is false.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        program: Any = torch.onnx.export(
            model,
            tuple(_inputs(exported, SHAPES[0]).values()),
            input_names=ONNX_INPUTS,
            output_names=ONNX_OUTPUTS,
            dynamic_shapes=dict.fromkeys(ONNX_INPUTS, axes),
            dynamo=True,
            verbose=False,
        )
    onnx_model = program.model_proto
    _clear_traces(onnx_model)
    file.write_bytes(onnx_model.SerializeToString())
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    largest = max(_difference(model, session, shape) for shape in SHAPES)
    if not largest <= PARITY_TOLERANCE:
        raise UserError(
            "export-not-equal",
            f"logits of PyTorch and ONNX Runtime differ by {largest:.1e}, more than {PARITY_TOLERANCE:.0e}. "
            "Nothing is written.",
        )
    return largest


def _inputs(exported: BertForPreTraining, shape: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Return random histories of several lengths, int64 `[B, T]` each."""
    config, random = exported.config, torch.Generator().manual_seed(0)
    histories, tokens = shape[0], min(shape[1], config.max_position_embeddings)
    real = torch.arange(tokens) < torch.linspace(tokens, 1, histories)[:, None]
    ids = torch.randint(config.vocab_size, (histories, tokens), generator=random)
    visits = torch.arange(tokens).clamp(max=config.type_vocab_size - 1)
    return dict(zip(ONNX_INPUTS, (ids * real, real.long(), visits * real), strict=True))


def _difference(model: Logits, session: Any, shape: tuple[int, int]) -> float:
    inputs = _inputs(model.exported, shape)
    with torch.no_grad():
        expected = model(**inputs)
    logits = session.run(list(ONNX_OUTPUTS), {name: values.numpy() for name, values in inputs.items()})
    return max(
        float(np.abs(ours.numpy() - theirs).max()) for ours, theirs in zip(expected, logits, strict=True)
    )


def _clear_traces(message: Any) -> None:
    """Clear `TRACE_FIELDS` of a protocol buffer message and all messages in it."""
    for field, value in message.ListFields():
        if field.name in TRACE_FIELDS:
            message.ClearField(field.name)
        elif field.message_type:
            for inner in [value] if hasattr(value, "ListFields") else value:
                _clear_traces(inner)
