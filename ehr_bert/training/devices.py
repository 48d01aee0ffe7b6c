"""Where a training runs: one device, all GPUs of this machine, or a TPU."""

from dataclasses import dataclass

import tensorflow as tf

from ehr_bert.errors import UserError


@dataclass(frozen=True)
class Tpu:
    """A TPU as the original program's flags name it; all None means the one attached to this machine."""

    name: str | None = None
    zone: str | None = None
    project: str | None = None
    master: str | None = None
    cores: int = 8


def choose_strategy(tpu: Tpu | None = None) -> tf.distribute.Strategy:
    """The strategy for `tpu`, or else for what this machine has.

    Raises:
        UserError: the TPU can't be reached, or has another number of cores.
    """
    if tpu is None:
        several_gpus = len(tf.config.list_physical_devices("GPU")) > 1
        return tf.distribute.MirroredStrategy() if several_gpus else tf.distribute.get_strategy()
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            tpu=tpu.name or tpu.master or "local", zone=tpu.zone, project=tpu.project
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no TPU can be used: {reason} (leave --use_tpu out to train without)") from error
    if strategy.num_replicas_in_sync != tpu.cores:
        raise UserError(f"the TPU has {strategy.num_replicas_in_sync} cores, --num_tpu_cores={tpu.cores}")
    return strategy
