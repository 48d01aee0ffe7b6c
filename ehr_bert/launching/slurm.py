"""A job of Slurm: one worker a node, on all of the node's GPUs and cores."""

import shlex
import subprocess
from collections.abc import Sequence

from ehr_bert.errors import UserError

STOP_SECONDS = 120
"""So long before the time limit workers are told to stop, and so long they are waited for."""

# srun would kill its workers at once on a SIGTERM of its own, so Slurm sends it to the workers alone.
# The first worker to end may be one that doesn't write: --wait leaves the others time to save.
SCRIPT = r"""#!/bin/bash
{directives}

# Each node runs one worker. TF_CONFIG tells it where all of them are, and which one it is.
port=$((20000 + SLURM_JOB_ID % 10000))
WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
export WORKERS

trap : TERM  # the workers save and end, and this shell waits for them
srun --kill-on-bad-exit=0 --wait={stop_seconds} --cpu-bind=none bash -c '
    task="{{\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    export TF_CONFIG="{{\"cluster\": {{\"worker\": [$WORKERS]}}, \"task\": $task}}"
    exec "$@"
' worker \
    {command}
status=$?

# 75: told to stop, and saved. The same job goes on from there.
if [ "$status" -eq 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def batch_script(command: Sequence[str], nodes: int, gpus_per_node: int, options: Sequence[str] = ()) -> str:
    """The script that `sbatch` takes.

    Args:
        command: What each worker runs.
        nodes: How many nodes.
        gpus_per_node: GPUs of each; with 0 none are asked for.
        options: Options of `sbatch` beside the script's own, such as `--partition=gpu`. The last one counts.
    """
    asked = [
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
        directives="\n".join(f"#SBATCH {option}" for option in asked),
        stop_seconds=STOP_SECONDS,
        command=shlex.join(command),
    )


def submit(script: str) -> str:
    """Hands a script to `sbatch`; what that says.

    Raises:
        UserError: there is no `sbatch` here, or it refuses the script.
    """
    try:
        done = subprocess.run(["sbatch"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UserError(
            "there is no sbatch here: run this where jobs are submitted, or print the script (--dry-run)"
        ) from error
    if done.returncode:
        raise UserError(f"sbatch refuses the job: {' '.join(done.stderr.split())}")
    return done.stdout.strip()
