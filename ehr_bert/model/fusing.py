"""Chains of elementwise operations, each made in one pass over memory where the backend can.

On a CPU TensorFlow's own matrix products are the fastest, in bfloat16 by far, and XLA's elementwise chains
are: so a step takes both, product by product and chain by chain.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

_fusing = ContextVar("fusing", default=False)


@contextmanager
def fused_chains() -> Iterator[None]:
    """Within it, TensorFlow's graphs are made with `fused` chains compiled by XLA."""
    token = _fusing.set(True)
    try:
        yield
    finally:
        _fusing.reset(token)


def fused(chain: Callable[..., Any], *tensors: Any, **settings: Any) -> Any:
    """`chain(*tensors, **settings)`, compiled as one where that was asked for.

    Args:
        chain: A function of a module, that holds no tensor of its own: it is compiled once for its settings
            and its tensors' shapes, however many layers call it.
        tensors: What it works on: tensors, weights or numbers.
        settings: What is known before, by name; hashable.
    """
    if not _fusing.get():
        return chain(*tensors, **settings)
    import tensorflow as tf

    return _compiled(chain, tuple(settings.items()))(*map(tf.convert_to_tensor, tensors))


@cache
def _compiled(chain: Callable[..., Any], settings: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import tensorflow as tf

    return tf.function(partial(chain, **dict(settings)), jit_compile=True)
