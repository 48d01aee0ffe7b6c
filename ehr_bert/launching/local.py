"""Workers on this machine that train together as several machines do."""

import json
import socket
from collections.abc import Sequence

from ehr_bert.launching.processes import Process, run_together


def run_workers(command: Sequence[str], workers: int, gpus_each: int = 0) -> int:
    """Run a command in several workers that are connected through `TF_CONFIG`, until all have ended.

    Args:
        command: Command of each worker.
        workers: Number of workers.
        gpus_each: Number of GPUs per worker. With 0 they use the CPU.

    Returns:
        Exit status, as in `run_together`.
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
    """Return the value of `TF_CONFIG`: the addresses of all workers, and the index of this one."""
    return json.dumps({"cluster": {"worker": list(addresses)}, "task": {"type": "worker", "index": index}})


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [free_socket.getsockname()[1] for free_socket in sockets]
    for free_socket in sockets:
        free_socket.close()
    return ports
