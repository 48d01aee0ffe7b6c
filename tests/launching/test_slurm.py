# Covers: ehr_bert.cli.launch
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ehr_bert.cli import main
from ehr_bert.launching.slurm import batch_script, submit
from tests.user_errors import raises_user_error

# Replacements of Slurm's commands. `srun` starts one worker per node, one after the other.
SCONTROL = """#!/bin/sh
case "$1" in
    show) printf 'node-a\\nnode-b.cluster\\nnode-c\\n' ;;
    *) echo "$@" >> requeued ;;
esac
"""
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
highest=0
for SLURM_PROCID in 0 1 2; do
    export SLURM_PROCID
    "$@"; status=$?
    if [ $status -gt $highest ]; then highest=$status; fi
done
exit $highest
"""
WORKER = "import os, sys; print(os.environ['TF_CONFIG'], sys.argv[2]); sys.exit(int(sys.argv[1]))"


def cluster(folder: Path, **programs: str) -> dict[str, str]:
    """Return the environment of a job, with these programs first in PATH."""
    for name, program in programs.items():
        (folder / name).write_text(program)
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node-[a-c]"}
    return {**os.environ, **job, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("status", [0, 1, 75])
def test_each_worker_receives_all_addresses_and_the_job_is_requeued_on_75(tmp_path, status):
    odd = "two words, 'quoted' \"twice\" $HOME"
    script = batch_script([sys.executable, "-c", WORKER, str(status), odd], nodes=3, gpus_per_node=2)
    environment = cluster(tmp_path, scontrol=SCONTROL, srun=SRUN)
    done = subprocess.run(
        ["bash"], input=script, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == status, done.stderr
    workers = ["node-a:23456", "node-b.cluster:23456", "node-c:23456"]
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for index, line in enumerate(lines):
        config, _, argument = line.partition("}} ")
        assert argument == odd
        assert json.loads(config + "}}") == {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": index},
        }
    requeued = tmp_path / "requeued"
    assert (requeued.read_text() if requeued.exists() else "") == ("requeue 123456\n" if status == 75 else "")


def launched(capsys, *flags: str) -> str:
    arguments = ["pretrain/recipes/small.toml", "--features", "A=F 1", "F2", "--output", "D", *flags]
    assert main(["launch", "--slurm", *arguments]) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def at_the_repository_root(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])


def test_a_dry_run_prints_only_a_valid_script(capsys, tmp_path):
    script = launched(capsys, "--nodes", "32", "--gpus-per-node", "4", "--sbatch=--time=1:00:00", "--dry-run")
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert {
        "#SBATCH --nodes=32",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --ntasks-per-node=1",
        "#SBATCH --requeue",
        "#SBATCH --signal=TERM@120",
    } < set(lines)
    # It follows the options of the script, which it overrides.
    assert lines[lines.index("") - 1] == "#SBATCH --time=1:00:00"
    assert f"{sys.executable} -m ehr_bert pretrain" in script
    assert "--features 'A=F 1' F2 --output D" in script
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    if shutil.which("sbatch"):
        assert subprocess.run(["sbatch", "--test-only"], input=script, text=True, check=False).returncode == 0


def test_without_gpus_none_are_requested(capsys):
    assert "gpus" not in launched(capsys, "--dry-run")


def test_the_printed_script_is_submitted(capsys, tmp_path, monkeypatch):
    environment = cluster(
        tmp_path, sbatch=f"#!/bin/sh\ncat > {tmp_path}/script\necho Submitted batch job 7\n"
    )
    monkeypatch.setenv("PATH", environment["PATH"])
    script = launched(capsys, "--dry-run")
    assert launched(capsys) == "Submitted batch job 7\n"
    assert (tmp_path / "script").read_text() == script


def test_errors_of_sbatch_are_reported(tmp_path, monkeypatch):
    refuses = "#!/bin/sh\nprintf 'sbatch: error: invalid\\nsbatch: error: partition\\n' >&2\nexit 1\n"
    monkeypatch.setenv("PATH", cluster(tmp_path, sbatch=refuses)["PATH"])
    with raises_user_error("job-rejected", "sbatch: error: invalid sbatch: error: partition"):
        submit("#!/bin/bash\n")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with raises_user_error("missing-sbatch", "--dry-run"):
        submit("#!/bin/bash\n")


def test_an_invalid_recipe_is_refused_before_submission(tmp_path, capsys):
    (tmp_path / "my.toml").write_text("sede = 3")
    arguments = [str(tmp_path / "my.toml"), "--features", "F", "--output", "D"]
    assert main(["launch", "--slurm", *arguments]) == 1
    assert "[unknown-setting]" in capsys.readouterr().err
