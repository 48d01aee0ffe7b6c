"""The exported model as ONNX, for programs without PyTorch. Needs the extra `onnx`."""

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

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("prediction_logits", "seq_relationship_logits")

SHAPES = ((3, 7), (2, 11), (1, 2))
"""Histories, and tokens of the longest, on which both are compared; the file is traced with the first."""

TRACES = ("metadata_props", "doc_string")
"""Fields of ONNX in which PyTorch leaves the lines, and so the paths, of the programs that made a node."""


class Logits(torch.nn.Module):
    """The logits of both objectives, that of stays as the model was trained, whatever its `stay_pooling`.

    Args:
        exported: The PyTorch model.
    """

    def __init__(self, exported: BertForPreTraining):
        super().__init__()
        self.exported = exported

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All logits of a batch.

        Args:
            input_ids: Tokens, [B, T].
            attention_mask: 1 at real positions, [B, T].
            token_type_ids: Visits, [B, T].

        Returns:
            `prediction_logits`, [B, T, V], and `seq_relationship_logits`, [B, 2].
        """
        model = self.exported
        encoded = model.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        pooled = stay_pooled(model, encoded, token_type_ids, attention_mask)
        return model.cls.predictions(encoded.last_hidden_state), model.cls.seq_relationship(pooled)


def write_onnx(exported: BertForPreTraining, file: Path) -> str:
    """Writes a model as ONNX, once it is shown to compute the same.

    Args:
        exported: The PyTorch model, its dropout off.
        file: Where to.

    Returns:
        What was found.

    Raises:
        UserError: the extra isn't installed, or the logits differ.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  PyTorch writes ONNX with it
    except ImportError as error:
        raise UserError(f"ONNX needs {error.name}: pip install 'ehr-bert[onnx]'") from error
    model = Logits(exported).eval()
    axes = {0: "batch_size", 1: "sequence_length"}
    # The exporter tells what it does, whether asked to or not.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        program: Any = torch.onnx.export(
            model,
            tuple(_inputs(exported, SHAPES[0]).values()),
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=dict.fromkeys(INPUTS, axes),
            dynamo=True,
            verbose=False,
        )
    onnx_model = program.model_proto
    _forget_traces(onnx_model)
    file.write_bytes(onnx_model.SerializeToString())
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    largest = max(_difference(model, session, shape) for shape in SHAPES)
    if not largest <= PARITY_TOLERANCE:
        raise UserError(
            f"logits of PyTorch and ONNX differ by {largest:.1e}, more than {PARITY_TOLERANCE:.0e}: "
            "nothing is written"
        )
    return f"PyTorch and ONNX Runtime agree: largest difference {largest:.1e} of a logit"


def _inputs(exported: BertForPreTraining, shape: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Random histories of all lengths up to that of the shape, [B, T] each."""
    config, random = exported.config, torch.Generator().manual_seed(0)
    histories, tokens = shape[0], min(shape[1], config.max_position_embeddings)
    real = torch.arange(tokens) < torch.linspace(tokens, 1, histories)[:, None]
    ids = torch.randint(config.vocab_size, (histories, tokens), generator=random)
    visits = torch.arange(tokens).clamp(max=config.type_vocab_size - 1)
    return dict(zip(INPUTS, (ids * real, real.long(), visits * real), strict=True))


def _difference(model: Logits, session: Any, shape: tuple[int, int]) -> float:
    inputs = _inputs(model.exported, shape)
    with torch.no_grad():
        expected = model(**inputs)
    found = session.run(list(OUTPUTS), {name: values.numpy() for name, values in inputs.items()})
    return max(
        float(np.abs(ours.numpy() - theirs).max()) for ours, theirs in zip(expected, found, strict=True)
    )


def _forget_traces(message: Any) -> None:
    """Clears `TRACES` of a protocol buffer message and all messages in it."""
    for field, value in message.ListFields():
        if field.name in TRACES:
            message.ClearField(field.name)
        elif field.message_type:
            for each in [value] if hasattr(value, "ListFields") else value:
                _forget_traces(each)
