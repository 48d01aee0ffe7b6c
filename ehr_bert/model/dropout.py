"""Dropout without state: a hash of the key of the position, the number of the dropout layer and the unit.

The dropout of a training run depends only on the seed and the step. It is the same on any number of
devices, in any number of micro-batches and after a restart. A compiler can recompute it in the backward pass
instead of storing it.
"""

from typing import Any

from keras import ops

_UNIT_STRIDE, _SITE_STRIDE = 0x9E3779B9, 0x85EBCA6B
"""Odd constants that spread units and sites (Knuth's golden ratio, and one of MurmurHash3)."""


def drop(values: Any, rate: float, keys: Any, site: Any, stacked_axis: int | None = None) -> Any:
    """Set a share `rate` of `values` to 0 and scale up the others (Srivastava et al. 2014).

    Args:
        values: Vectors of units, `[..., units]`.
        rate: Dropout rate, from 0 to below 1.
        keys: Random int32 `[..., 1]`, or a shape that broadcasts to it.
        site: Number of this dropout layer in the model, from 0. No two layers share a number.
        stacked_axis: An axis, such as that of attention heads, along which `keys` are the same.
    """
    if not rate:
        return values
    numbers = ops.arange(values.shape[-1])  # [units]
    if stacked_axis is not None:  # Units are numbered through the stack.
        stacked = [-1 if axis == stacked_axis else 1 for axis in range(len(values.shape))]
        rows = ops.reshape(ops.arange(values.shape[stacked_axis]), stacked)
        numbers = rows * values.shape[-1] + numbers
    units = ops.cast(numbers, "uint32") * _constant(_UNIT_STRIDE)
    offset = ops.cast(site + 1, "uint32") * _constant(_SITE_STRIDE)
    bits = _mixed(ops.cast(keys, "uint32") + units + offset)  # [..., units]
    is_kept = ops.greater_equal(bits, _constant(round(rate * 2**32)))
    return ops.where(is_kept, values * (1.0 / (1.0 - rate)), ops.zeros_like(values))


def _mixed(bits: Any) -> Any:
    """Hash bits so that each bit of the input changes each bit of the output with probability 0.5.

    The constants are those of `lowbias32` (Wellons 2018, "Prospecting for Hash Functions").
    """
    bits = ops.bitwise_xor(bits, ops.right_shift(bits, _constant(16))) * _constant(0x7FEB352D)
    bits = ops.bitwise_xor(bits, ops.right_shift(bits, _constant(15))) * _constant(0x846CA68B)
    return ops.bitwise_xor(bits, ops.right_shift(bits, _constant(16)))


def _constant(value: int) -> Any:
    return ops.convert_to_tensor(value, dtype="uint32")
