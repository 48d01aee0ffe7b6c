"""Chains of elementwise operations that run in one pass over memory, if the backend supports it.

On a CPU, the matrix products of TensorFlow are faster than those of XLA, especially in bfloat16, but XLA is
faster for elementwise chains. A step uses TensorFlow for the products and XLA for the chains.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from typing import Any

_fusing = ContextVar("fusing", default=False)


@contextmanager
def fused_chains() -> Iterator[None]:
    """Within this context, XLA compiles the `fused` chains of TensorFlow graphs."""
    token = _fusing.set(True)
    try:
        yield
    finally:
        _fusing.reset(token)


def fused(chain: Callable[..., Any], *tensors: Any, **settings: Any) -> Any:
    """Return `chain(*tensors, **settings)`, compiled within `fused_chains`.

    Args:
        chain: A module-level function without captured tensors. It is compiled once per settings and shapes,
            however many layers call it.
        tensors: Tensors, weights or numbers.
        settings: Hashable constants by name.
    """
    if not _fusing.get():
        return chain(*tensors, **settings)
    import tensorflow as tf

    return _compiled(chain, tuple(settings.items()))(*map(tf.convert_to_tensor, tensors))


@cache
def _compiled(chain: Callable[..., Any], settings: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    import tensorflow as tf

    return tf.function(partial(chain, **dict(settings)), jit_compile=True)
