"""Devices to train on: one device, several of this machine, several machines, or a TPU."""

import os
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from ehr_bert.errors import UserError


@dataclass(frozen=True)
class Tpu:
    """A TPU, named by the flags of the original program. Without a name, the TPU of this machine."""

    name: str | None = None
    zone: str | None = None
    project: str | None = None
    master: str | None = None
    cores: int | None = None


@dataclass(frozen=True)
class Devices:
    """Devices to train on.

    Attributes:
        count: Number of GPUs to use per machine. Without GPUs, number of virtual devices on the CPU, for
            tests. If None, all GPUs, or else the whole CPU.
        tpu: TPU to use instead.
    """

    count: int | None = None
    tpu: Tpu | None = None


def choose_strategy(devices: Devices) -> tf.distribute.Strategy:
    """Return the distribution strategy for `devices`.

    It must be chosen before TensorFlow is used for anything else. If the environment variable `TF_CONFIG` is
    set, the machines that it names train together.

    Raises:
        UserError: The number of devices is not positive (key `devices-out-of-range`), there are fewer GPUs
            (`too-few-gpus`), devices are requested together with a TPU (`conflicting-options`), or the other
            machines (`unreachable-machines`) or the TPU (`unreachable-tpu`) cannot be used.
    """
    if devices.tpu:
        if devices.count is not None:
            raise UserError(
                "conflicting-options",
                "--devices counts GPUs, but a TPU is always used with all its cores. Use --devices or --tpu.",
            )
        return _tpu_strategy(devices.tpu)
    if devices.count is not None and devices.count < 1:
        raise UserError("devices-out-of-range", f"--devices is {devices.count}. It must be 1 or more.")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and devices.count is not None:
        if devices.count > len(gpus):
            raise UserError(
                "too-few-gpus",
                f"--devices is {devices.count}, but this machine has {len(gpus)} GPUs. Use at most that "
                "number.",
            )
        tf.config.set_visible_devices(gpus[: devices.count], "GPU")
    if "TF_CONFIG" in os.environ:
        return _strategy_for_machines()
    if gpus:
        several = (devices.count or len(gpus)) > 1
        return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    return _virtual_cpu_devices(devices.count or 1)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process writes and logs. One of several workers does."""
    cluster = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or cluster is None:
        return True
    return _is_chief_of(cluster)


def is_chief_of_tf_config() -> bool:
    """Return whether this process is the one of `TF_CONFIG` that writes and logs."""
    return _is_chief_of(tf.distribute.cluster_resolver.TFConfigClusterResolver())


def _is_chief_of(cluster: tf.distribute.cluster_resolver.ClusterResolver) -> bool:
    return cluster.task_type == "chief" or (
        "chief" not in cluster.cluster_spec().jobs and cluster.task_id == 0
    )


def device_kind(strategy: tf.distribute.Strategy) -> Literal["CPU", "GPU", "TPU"]:
    """Return the kind of device that `strategy` computes on."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "TPU"
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def resolve_precision(
    precision: Literal["auto", "float32", "bfloat16"], device: Literal["CPU", "GPU", "TPU"]
) -> Literal["float32", "bfloat16"]:
    """Return the precision to compute in. `auto` is float32 on a CPU and bfloat16 elsewhere."""
    if precision == "auto":
        return "float32" if device == "CPU" else "bfloat16"
    return precision


def _strategy_for_machines() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            "unreachable-machines",
            f"the machines of TF_CONFIG cannot train together: {reason}. Correct TF_CONFIG, or unset it to "
            "train on this machine.",
        ) from error


def _virtual_cpu_devices(count: int) -> tf.distribute.Strategy:
    if count == 1:
        return tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    virtual = [tf.config.LogicalDeviceConfiguration()] * count
    if tf.config.get_logical_device_configuration(cpu) != virtual:
        tf.config.set_logical_device_configuration(cpu, virtual)
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(count)])


def _tpu_strategy(tpu: Tpu) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=tpu.name or tpu.master or "local", zone=tpu.zone, project=tpu.project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            "unreachable-tpu", f"no TPU can be used: {reason}. Correct its name, or train without --tpu."
        ) from error
    if tpu.cores not in (None, strategy.num_replicas_in_sync):
        raise UserError(
            "tpu-cores-mismatch",
            f"the TPU has {strategy.num_replicas_in_sync} cores, but --num_tpu_cores is {tpu.cores}. Use "
            "the same number.",
        )
    return strategy
