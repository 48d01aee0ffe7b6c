"""Dropout without a state: a hash of the position's key, the place in the model and the unit.

So a training's dropout follows from the seed and the step alone. It is the same on any number of devices
and in any number of micro-batches, a restart repeats it, and a compiler makes it anew in the backward pass
instead of keeping it.
"""

from typing import Any

from keras import ops

_UNIT_STRIDE, _SITE_STRIDE = 0x9E3779B9, 0x85EBCA6B
"""Odd constants that carry units and sites far apart (Knuth's golden ratio, and one of MurmurHash3's)."""


def drop(values: Any, rate: float, keys: Any, site: Any, stacked_axis: int | None = None) -> Any:
    """Sets a share `rate` of `values` to 0 and scales up the rest (Srivastava et al. 2014).

    Args:
        values: [..., U]: vectors of U units.
        rate: From 0 to below 1.
        keys: Random int32 [..., 1], or what broadcasts to it.
        site: The number of this dropout in the model: each has its own.
        stacked_axis: An axis, such as that of attention heads, along which `keys` are the same.
    """
    if not rate:
        return values
    numbers = ops.arange(values.shape[-1])  # [U]
    if stacked_axis is not None:  # units are numbered on through the stack
        stacked = [-1 if axis == stacked_axis else 1 for axis in range(len(values.shape))]
        rows = ops.reshape(ops.arange(values.shape[stacked_axis]), stacked)
        numbers = rows * values.shape[-1] + numbers
    units = ops.cast(numbers, "uint32") * _constant(_UNIT_STRIDE)
    offset = ops.cast(site + 1, "uint32") * _constant(_SITE_STRIDE)
    bits = _mixed(ops.cast(keys, "uint32") + units + offset)  # [..., U]
    kept = ops.greater_equal(bits, _constant(round(rate * 2**32)))
    return ops.where(kept, values * (1.0 / (1.0 - rate)), ops.zeros_like(values))


def _mixed(bits: Any) -> Any:
    """A hash in which each bit of the input changes each bit of the output half of the time.

    The constants are those of `lowbias32` (Wellons 2018, "Prospecting for Hash Functions").
    """
    bits = ops.bitwise_xor(bits, ops.right_shift(bits, _constant(16))) * _constant(0x7FEB352D)
    bits = ops.bitwise_xor(bits, ops.right_shift(bits, _constant(15))) * _constant(0x846CA68B)
    return ops.bitwise_xor(bits, ops.right_shift(bits, _constant(16)))


def _constant(value: int) -> Any:
    return ops.convert_to_tensor(value, dtype="uint32")
