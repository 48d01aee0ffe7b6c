import json
import os
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from ehr_bert.training.devices import Devices, Tpu, choose_strategy, device_kind, is_chief, resolve_precision
from tests.user_errors import raises_user_error

VIRTUAL_DEVICES = """
import keras
import numpy as np
import tensorflow as tf
from ehr_bert.training.devices import Devices, choose_strategy, device_kind, is_chief
from ehr_bert.training.optimizer import build_optimizer
from ehr_bert.training.recipe import Optimizer, Phase, Recipe

strategy = choose_strategy(Devices(count=2))
choose_strategy(Devices(count=2))
phase = Phase(steps=9, warmup_steps=0, learning_rate=0.1)
for name in ("adamw", "lamb"):
    recipe = Recipe(phases=(phase,), optimizer=Optimizer(name=name, weight_decay=0.1))
    weights = []
    for candidate in (tf.distribute.get_strategy(), strategy):
        with candidate.scope():
            weight = keras.Variable(np.arange(6, dtype="float32").reshape(2, 3), name="kernel")
            optimizer = build_optimizer(recipe, [9], [weight])

        @tf.function(jit_compile=candidate is not strategy)
        def step():
            candidate.run(lambda: optimizer.apply([tf.ones((2, 3)) / candidate.num_replicas_in_sync],
            [weight]))

        for _ in range(3):
            step()
        weights.append(weight.numpy())
    np.testing.assert_allclose(*weights, rtol=1e-5)
print(strategy.num_replicas_in_sync, device_kind(strategy), is_chief(strategy))
"""

WORKER = """
import tensorflow as tf
from ehr_bert.training.devices import Devices, choose_strategy, is_chief

strategy = choose_strategy(Devices())

@tf.function
def total():
    return strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(3.0)))

print(float(total()), strategy.num_replicas_in_sync, is_chief(strategy))
"""


def run(program: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment})


def test_a_machine_without_gpus_uses_its_cpu():
    strategy = choose_strategy(Devices())
    assert strategy.num_replicas_in_sync == 1
    assert is_chief(strategy)
    if not tf.config.list_physical_devices("GPU"):
        assert device_kind(strategy) == "CPU"


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="counts GPUs there")
def test_two_virtual_cpu_devices_make_the_same_updates_as_one():
    output, errors = run(VIRTUAL_DEVICES).communicate()
    assert output == "2 CPU True\n", errors


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def test_machines_of_tf_config_train_together():
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = [
        run(
            WORKER,
            CUDA_VISIBLE_DEVICES="",
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [output for output, _ in outputs] == ["6.0 2 True\n", "6.0 2 False\n"], outputs[0][1][-2000:]


@pytest.mark.parametrize(
    ("devices", "key"),
    [
        (Devices(count=0), "devices-out-of-range"),
        (Devices(count=2, tpu=Tpu("t")), "conflicting-options"),
        (Devices(tpu=Tpu("grpc://nowhere")), "unreachable-tpu"),
    ],
)
def test_unusable_devices_are_refused(devices, key, monkeypatch):
    def unreachable(*_, **__):
        raise ValueError("nothing there\nand more")

    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", unreachable)
    with raises_user_error(key):
        choose_strategy(devices)


def test_too_few_gpus_are_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one", "two"])
    with raises_user_error("too-few-gpus", 3, 2):
        choose_strategy(Devices(count=3))


def test_an_invalid_tf_config_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "no JSON")
    with raises_user_error("unreachable-machines", "TF_CONFIG"):
        choose_strategy(Devices())


def test_automatic_precision_follows_the_device():
    assert [resolve_precision("auto", kind) for kind in ("CPU", "GPU", "TPU")] == [
        "float32",
        "bfloat16",
        "bfloat16",
    ]
    assert resolve_precision("bfloat16", "CPU") == "bfloat16"
    assert resolve_precision("float32", "GPU") == "float32"
