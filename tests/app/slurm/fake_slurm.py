"""As much of SLURM as submitit talks to, on this machine: sbatch, srun, sacct, scontrol requeue, scancel --signal.

It is called by the name of one of these, with its arguments behind. Every job of an array is a process that has a file
with its state in the folder FAKE_SLURM; what is said to sbatch stays there too.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

FOLDER = Path(os.environ["FAKE_SLURM"])
ARRAY_ID = 101
OPTIONS_OF_SRUN = ("--output", "--error")


def sbatch(script: str) -> None:
    """Begin all jobs of the array at once, and return."""
    text = Path(script).read_text()
    (FOLDER / "script.sh").write_text(text)
    (found,) = re.findall(r"^#SBATCH --array=0-(\d+)%\d+$", text, flags=re.MULTILINE)
    for index in range(int(found) + 1):
        _write_state(f"{ARRAY_ID}_{index}", "PENDING")
        job = [sys.executable, __file__, "job", str(FOLDER / "script.sh"), str(index)]
        subprocess.Popen(job, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    print(f"Submitted batch job {ARRAY_ID}")


def job(script: str, index: str) -> None:
    """One job of the array, begun again as often as it is requeued."""
    name = f"{ARRAY_ID}_{index}"
    (tasks,) = re.findall(r"^#SBATCH --ntasks-per-node=(\d+)$", Path(script).read_text(), flags=re.MULTILINE)
    own = {
        "SLURM_JOB_ID": str(ARRAY_ID + 1 + int(index)),
        "SLURM_ARRAY_JOB_ID": str(ARRAY_ID),
        "SLURM_ARRAY_TASK_ID": index,
        "SLURM_NTASKS": tasks,
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_NODEID": "0",
    }
    flag = FOLDER / f"{name}.requeue"
    while True:
        _write_state(name, "RUNNING")
        code = subprocess.run(["bash", script], env={**os.environ, **own}, check=False).returncode
        if not flag.exists():
            return _write_state(name, "COMPLETED" if code == 0 else "FAILED")
        flag.unlink()


def srun(*arguments: str) -> None:
    """The tasks of a job, each with its rank."""
    command = list(arguments)
    outputs = {}
    while command[0].startswith("--"):
        option = command.pop(0)
        if option in OPTIONS_OF_SRUN:
            outputs[option] = command.pop(0)
    name = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    tasks = []
    for rank in range(int(os.environ["SLURM_NTASKS"])):
        log = outputs["--output"].replace("%A_%a", name).replace("%t", str(rank))
        environment = {**os.environ, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        with open(log, "a") as file:
            tasks.append(subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT))
    (FOLDER / f"{name}.pids").write_text(" ".join(str(task.pid) for task in tasks))
    sys.exit(max(abs(task.wait()) for task in tasks))


def sacct(*arguments: str) -> None:
    """The states of all jobs."""
    print("JobID|State|NodeList")
    for path in sorted(FOLDER.glob("*.state")):
        print(f"{path.stem}|{path.read_text()}|localhost")


def scontrol(verb: str, name: str) -> None:
    """Have a job begin again once it has ended."""
    assert verb == "requeue"
    (FOLDER / f"{name}.requeue").touch()


def scancel(name: str, option: str, signal_name: str) -> None:
    """Send a signal to the tasks of a job, as SLURM does shortly before the end of its time, or to preempt it."""
    assert option == "--signal"
    for pid in (FOLDER / f"{name}.pids").read_text().split():
        os.kill(int(pid), signal.Signals[f"SIG{signal_name}"])


def _write_state(name: str, state: str) -> None:
    beside = FOLDER / f"{name}.new"
    beside.write_text(state)
    beside.replace(FOLDER / f"{name}.state")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
