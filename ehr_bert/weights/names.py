"""Which weight of the Keras model is which parameter of Hugging Face's `BertForPreTraining`.

The table reads both ways. Parameters that share another's storage (the output layer's table and its bias)
are no parameters of their own, as `torch.nn.Module.named_parameters` has it.
"""

TABLE = {"embeddings": "weight"}
DENSE = {"kernel": "weight", "bias": "bias"}
NORM_NAMES = {"gamma": "weight", "beta": "bias"}
BIAS = {"bias": "bias"}

OUTSIDE_BLOCKS = {
    "encoder/embeddings/tokens": ("bert.embeddings.word_embeddings", TABLE),
    "encoder/embeddings/positions": ("bert.embeddings.position_embeddings", TABLE),
    "encoder/embeddings/visits": ("bert.embeddings.token_type_embeddings", TABLE),
    "encoder/embeddings/norm": ("bert.embeddings.LayerNorm", NORM_NAMES),
    "masked_codes/transform": ("cls.predictions.transform.dense", DENSE),
    "masked_codes/norm": ("cls.predictions.transform.LayerNorm", NORM_NAMES),
    "masked_codes": ("cls.predictions", BIAS),
    "stay/pooler": ("bert.pooler.dense", DENSE),
    "stay/relationship": ("cls.seq_relationship", DENSE),
}
INSIDE_A_BLOCK = {
    "attention/query": ("attention.self.query", DENSE),
    "attention/key": ("attention.self.key", DENSE),
    "attention/value": ("attention.self.value", DENSE),
    "attention/output": ("attention.output.dense", DENSE),
    "attention_norm": ("attention.output.LayerNorm", NORM_NAMES),
    "inner": ("intermediate.dense", DENSE),
    "outer": ("output.dense", DENSE),
    "outer_norm": ("output.LayerNorm", NORM_NAMES),
}


def parameter_names(num_hidden_layers: int) -> dict[str, str]:
    """The name of each Keras weight, below the model's own, to the name of its PyTorch parameter."""
    layers = OUTSIDE_BLOCKS | {
        f"encoder/block_{block}/{layer}": (f"bert.encoder.layer.{block}.{module}", leaves)
        for block in range(num_hidden_layers)
        for layer, (module, leaves) in INSIDE_A_BLOCK.items()
    }
    return {
        f"{layer}/{leaf}": f"{module}.{torch_leaf}"
        for layer, (module, leaves) in layers.items()
        for leaf, torch_leaf in leaves.items()
    }


def is_kernel_transposed(name: str) -> bool:
    """Whether a Keras weight is turned: a kernel is [in, out] in Keras, [out, in] in PyTorch."""
    return name.endswith("/kernel")
