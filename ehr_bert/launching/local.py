"""Workers on this machine, which train together as several machines would."""

import json
import socket
from collections.abc import Sequence

from ehr_bert.launching.processes import Process, run_together


def run_workers(command: Sequence[str], workers: int, gpus_each: int = 0) -> int:
    """Runs a command as workers that find each other by `TF_CONFIG`, until all have ended.

    Args:
        command: What each of them runs.
        workers: How many.
        gpus_each: GPUs of each; with 0 they compute on the CPU.

    Returns:
        As `run_together`.
    """
    addresses = [f"localhost:{port}" for port in _free_ports(workers)]
    return run_together(
        [
            Process(
                command,
                {
                    "TF_CONFIG": tf_config(addresses, index),
                    "CUDA_VISIBLE_DEVICES": ",".join(
                        str(index * gpus_each + number) for number in range(gpus_each)
                    ),
                },
            )
            for index in range(workers)
        ]
    )


def tf_config(addresses: Sequence[str], index: int) -> str:
    """What TensorFlow wants to know in `TF_CONFIG`: where all workers are, and which one this is."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}})


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
