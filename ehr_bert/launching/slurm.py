"""A Slurm job with one worker per node, which uses all GPUs and cores of its node."""

import shlex
import subprocess
from collections.abc import Sequence

from ehr_bert.errors import UserError

STOP_SECONDS = 120
"""Seconds before the time limit at which workers are interrupted, and seconds to wait for them."""

# On SIGTERM srun would kill its workers at once, so Slurm sends the signal only to the workers.
# The first worker to end may be one that does not write: --wait gives the others time to save.
SCRIPT = r"""#!/bin/bash
{directives}

# Each node runs one worker. TF_CONFIG contains the addresses of all workers and the index of this one.
port=$((20000 + SLURM_JOB_ID % 10000))
WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
export WORKERS

trap : TERM  # the workers save and end while this shell waits
srun --kill-on-bad-exit=0 --wait={stop_seconds} --cpu-bind=none bash -c '
    task="{{\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    export TF_CONFIG="{{\"cluster\": {{\"worker\": [$WORKERS]}}, \"task\": $task}}"
    exec "$@"
' worker \
    {command}
status=$?

# 75: interrupted and saved. The same job resumes.
if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def batch_script(command: Sequence[str], nodes: int, gpus_per_node: int, options: Sequence[str] = ()) -> str:
    """Return a script for `sbatch`.

    Args:
        command: Command of each worker.
        nodes: Number of nodes.
        gpus_per_node: Number of GPUs per node. With 0 none are requested.
        options: Further options of `sbatch`, such as `--partition=gpu`. They override those of the script.
    """
    all_options = [
        "--job-name=ehr-bert",
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        "--exclusive",
        *([f"--gpus-per-node={gpus_per_node}"] if gpus_per_node else []),
        "--requeue",
        "--open-mode=append",
        f"--signal=TERM@{STOP_SECONDS}",
        *options,
    ]
    return SCRIPT.format(
        directives="\n".join(f"#SBATCH {option}" for option in all_options),
        stop_seconds=STOP_SECONDS,
        command=shlex.join(command),
    )


def submit(script: str) -> str:
    """Submit a script with `sbatch`, and return its output.

    Raises:
        UserError: `sbatch` is not installed (key `missing-sbatch`), or it rejects the script
            (`job-rejected`).
    """
    try:
        done = subprocess.run(["sbatch"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(
            "missing-sbatch",
            "sbatch is not installed. Run this on a machine that submits jobs, or print the script "
            "(--dry-run).",
        ) from error
    if done.returncode:
        raise UserError(
            "job-rejected",
            f"sbatch rejects the job: {' '.join(done.stderr.split())}. Change the options (--sbatch).",
        )
    return done.stdout.strip()
