import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ehr_bert.launching.local import run_workers, tf_config
from ehr_bert.training.record.checkpoints import newest_checkpoint, read_weights
from tests.launching.trainings import STEPS, write_inputs

WORKER = """
import json, os, sys
from pathlib import Path
config = json.loads(os.environ["TF_CONFIG"])
seen = os.environ["CUDA_VISIBLE_DEVICES"]
Path(sys.argv[1], str(config["task"]["index"])).write_text(json.dumps([config, seen]))
"""


def test_tf_config_is_what_tensorflow_documents():
    assert json.loads(tf_config(["a:1", "b:2"], 1)) == {
        "cluster": {"worker": ["a:1", "b:2"]},
        "task": {"type": "worker", "index": 1},
    }


@pytest.mark.parametrize(("gpus_each", "seen"), [(0, ["", "", ""]), (2, ["0,1", "2,3", "4,5"])])
def test_each_worker_receives_all_addresses_its_index_and_its_gpus(tmp_path, gpus_each, seen):
    assert run_workers([sys.executable, "-c", WORKER, str(tmp_path)], 3, gpus_each) == 0
    received = [json.loads((tmp_path / str(index)).read_text()) for index in range(3)]
    assert [gpus for _, gpus in received] == seen
    assert [config["task"]["index"] for config, _ in received] == [0, 1, 2]
    clusters = [config["cluster"]["worker"] for config, _ in received]
    assert clusters[0] == clusters[1] == clusters[2]
    assert len(set(clusters[0])) == 3
    assert all(re.fullmatch(r"localhost:\d+", address) for address in clusters[0])


def start(inputs: tuple[Path, Path], output: Path, *where: str) -> subprocess.Popen:
    """Start `ehr-bert launch`, or `ehr-bert pretrain` without arguments for workers."""
    recipe, features = map(str, inputs)
    stage = ("launch", recipe, *where) if where else ("pretrain", "--recipe", recipe)
    return subprocess.Popen(
        [sys.executable, "-m", "ehr_bert", *stage, "--features", features, "--output", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> tuple[Path, Path]:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def by_two(inputs, tmp_path_factory) -> Path:
    """Training folder of two workers without interruption."""
    output = tmp_path_factory.mktemp("two") / "D"
    printed = finished(start(inputs, output, "--local", "2"))
    assert "float32 on 2 CPUs" in printed
    assert printed.count("pretraining on") == 1  # one worker logs
    return output


def assert_same_weights(one: Path, other: Path) -> None:
    assert newest_checkpoint(one).endswith(f"-{STEPS}")
    ours, theirs = read_weights(one), read_weights(other)
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_allclose(theirs[name], values, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_workers_give_the_weights_of_one_process(inputs, by_two, tmp_path):
    finished(start(inputs, tmp_path / "D"))
    assert_same_weights(tmp_path / "D", by_two)


def child_processes(process: subprocess.Popen) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return [int(line) for line in listed.stdout.split()]


def wait_for(file: Path, process: subprocess.Popen) -> None:
    while not file.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)


@pytest.mark.slow
def test_after_a_killed_worker_a_resumed_training_ends_with_the_same_weights(inputs, by_two, tmp_path):
    broken = start(inputs, tmp_path / "D", "--local", "2")
    wait_for(tmp_path / "D" / "checkpoint", broken)
    workers = child_processes(broken)
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    printed, _ = broken.communicate(timeout=60)
    assert broken.returncode == 128 + signal.SIGKILL, printed
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert not newest_checkpoint(tmp_path / "D").endswith(f"-{STEPS}")

    printed = finished(start(inputs, tmp_path / "D", "--local", "2"))
    assert "resuming from the checkpoint at step" in printed
    assert_same_weights(by_two, tmp_path / "D")


@pytest.mark.slow
def test_interrupted_workers_save_and_exit_with_75(inputs, by_two, tmp_path):
    stopped = start(inputs, tmp_path / "D", "--local", "2")
    wait_for(tmp_path / "D" / "checkpoint", stopped)
    stopped.send_signal(signal.SIGTERM)
    printed, _ = stopped.communicate(timeout=60)
    assert stopped.returncode == 75, printed
    finished(start(inputs, tmp_path / "D", "--local", "2"))
    assert_same_weights(by_two, tmp_path / "D")
