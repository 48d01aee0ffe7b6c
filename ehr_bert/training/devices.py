"""Where a training runs: on one device, several of this machine, several machines, or a TPU."""

import os
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from ehr_bert.errors import UserError


@dataclass(frozen=True)
class Tpu:
    """A TPU as the original program's flags name it; all None means the one attached to this machine."""

    name: str | None = None
    zone: str | None = None
    project: str | None = None
    master: str | None = None
    cores: int | None = None


@dataclass(frozen=True)
class Devices:
    """Where to train.

    Attributes:
        count: The first so many GPUs of each machine; on a machine without, as many shares of its CPU, which
            is of use to try things out. All GPUs, or the whole CPU, if None.
        tpu: A TPU in their place.
    """

    count: int | None = None
    tpu: Tpu | None = None


def choose_strategy(devices: Devices) -> tf.distribute.Strategy:
    """The strategy for `devices`. It has to be chosen before TensorFlow is used for anything else.

    With the environment variable `TF_CONFIG` the machines that it names train together.

    Raises:
        UserError: there are fewer GPUs; the other machines or the TPU can't be reached.
    """
    if devices.tpu:
        if devices.count is not None:
            raise UserError("--devices counts GPUs, and a TPU is used as a whole: leave one of them out")
        return _tpu_strategy(devices.tpu)
    if devices.count is not None and devices.count < 1:
        raise UserError(f"--devices is {devices.count}: it must be 1 or more")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and devices.count is not None:
        if devices.count > len(gpus):
            raise UserError(f"--devices is {devices.count}, and this machine has {len(gpus)} GPUs")
        tf.config.set_visible_devices(gpus[: devices.count], "GPU")
    if "TF_CONFIG" in os.environ:
        return _several_machines()
    if gpus:
        several = (devices.count or len(gpus)) > 1
        return tf.distribute.MirroredStrategy() if several else tf.distribute.get_strategy()
    return _shares_of_the_cpu(devices.count or 1)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one, among those that train together, that writes and prints."""
    cluster = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or cluster is None:
        return True
    return _leads(cluster)


def leads_machines() -> bool:
    """Whether this process is the one, among the machines that `TF_CONFIG` names, that writes and prints."""
    return _leads(tf.distribute.cluster_resolver.TFConfigClusterResolver())


def _leads(cluster: tf.distribute.cluster_resolver.ClusterResolver) -> bool:
    return cluster.task_type == "chief" or (
        "chief" not in cluster.cluster_spec().jobs and cluster.task_id == 0
    )


def device_kind(strategy: tf.distribute.Strategy) -> Literal["CPU", "GPU", "TPU"]:
    """The kind of device that `strategy` computes on."""
    if isinstance(strategy, tf.distribute.TPUStrategy):
        return "TPU"
    return "GPU" if tf.config.list_logical_devices("GPU") else "CPU"


def resolve_precision(
    precision: Literal["auto", "float32", "bfloat16"], device: Literal["CPU", "GPU", "TPU"]
) -> Literal["float32", "bfloat16"]:
    """The precision of the computation: what is asked for, or else what suits the kind of device."""
    if precision == "auto":
        return "float32" if device == "CPU" else "bfloat16"
    return precision


def _several_machines() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, RuntimeError, KeyError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"the machines of TF_CONFIG can't train together: {reason} (unset TF_CONFIG to train on this one)"
        ) from error


def _shares_of_the_cpu(count: int) -> tf.distribute.Strategy:
    if count == 1:
        return tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    shares = [tf.config.LogicalDeviceConfiguration()] * count
    if tf.config.get_logical_device_configuration(cpu) != shares:
        tf.config.set_logical_device_configuration(cpu, shares)
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
        raise UserError(f"no TPU can be used: {reason} (leave the TPU out to train without)") from error
    if tpu.cores not in (None, strategy.num_replicas_in_sync):
        raise UserError(f"the TPU has {strategy.num_replicas_in_sync} cores, --num_tpu_cores={tpu.cores}")
    return strategy
