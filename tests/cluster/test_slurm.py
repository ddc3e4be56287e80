"""confs/cluster/slurm.sh under a real Slurm: two nodes on this machine, in a network and among processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from real_head import clean
from small_run import history, small

from archsearch.jobs import EventKind

ROOT = Path(__file__).parents[2]

#: Both nodes are this host under two names, each with a daemon of its own.
CONF = """
ClusterName=test
SlurmctldHost=localhost(10.9.9.1)
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
SlurmUser=root
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool.%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=60
NodeName=n1 NodeHostname=localhost NodeAddr=10.9.9.1 Port=17001 CPUs=1
NodeName=n2 NodeHostname=localhost NodeAddr=10.9.9.1 Port=17002 CPUs=1
PartitionName=all Nodes=ALL Default=YES State=UP
"""

#: What happens on the cluster: a search is submitted, ended as Slurm does before a job's time is up, and goes on.
STORY = r"""
set -euo pipefail
ip link set lo up
ip link add eth0 type veth peer name eth1; ip addr add 10.9.9.1/24 dev eth0; ip link set eth0 up; ip link set eth1 up
printf '127.0.0.1 localhost\n10.9.9.1 n1 n2\n' > "$PLACE/hosts"; mount --bind "$PLACE/hosts" /etc/hosts
mkdir -p /tmp/ray; mount -t tmpfs tmpfs /tmp/ray
cd "$PLACE"
head -c 64 /dev/urandom > munge.key; chmod 600 munge.key
munged --force --key-file="$PLACE/munge.key" --socket="$PLACE/munge.socket" --pid-file="$PLACE/munge.pid" \
    --log-file="$PLACE/munge.log" --seed-file="$PLACE/munge.seed"
slurmctld; slurmd -N n1; slurmd -N n2
until [ "$(sinfo --noheader --states=idle --format=%D)" = 2 ]; do sleep 0.2; done

tell() { python -c '
import sys; from archsearch import api
try: summary = api.load_run("runs/long").summary(); print(summary["state"], summary["points"])
except Exception: print("none 0")'; }
job=$(sbatch --parsable --cpus-per-task=1 "$SCRIPT" long.yaml)
until [ "$(tell | cut -d" " -f2)" -ge 2 ]; do sleep 1; done
scancel --batch --signal=TERM "$job"
until [ "$(squeue --noheader --job="$job" --format=%T)" = PENDING ]; do sleep 0.5; done
tell > interrupted
ls -la "$HOME" > home
scontrol update JobId="$job" StartTime=now
until [ "$(squeue --noheader --job="$job" --format=%T)" != PENDING ]; do sleep 0.5; done
while squeue --noheader --job="$job" 2>/dev/null | grep -q .; do sleep 1; done
tell > ended
"""


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("slurmctld"), reason="needs root and Debian's slurm-wlm")
def test_a_search_under_slurm_ends_before_its_time_is_up_and_goes_on(tmp_path):
    config = small(search={"max_hull_points": 14}, seed_train={"epochs": 20}, post_train={"epochs": 20})
    config["cluster"] = {}
    (tmp_path / "long.yaml").write_text(yaml.safe_dump({**config, "run": {"seed": 5}}))
    place = tmp_path / "slurm"
    (tmp_path / "home").mkdir()
    (place / "state").mkdir(parents=True)
    (place / "slurm.conf").write_text(CONF.format(place=place))
    (place / "cgroup.conf").write_text("CgroupAutomount=no\n")
    shutil.copy(tmp_path / "long.yaml", place)
    settings = {"PLACE": str(place), "SLURM_CONF": str(place / "slurm.conf"), "HOME": str(tmp_path / "home")}
    settings |= {"SCRIPT": str(ROOT / "confs" / "cluster" / "slurm.sh"), "PYTHONPATH": str(ROOT)}
    isolated = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "bash", "-c", STORY]
    done = subprocess.run(isolated, env={**clean(), **settings}, capture_output=True, text=True, timeout=500)
    log = "\n".join(file.read_text() for file in place.glob("archsearch-*.log"))
    assert done.returncode == 0, done.stderr[-2000:] + log[-3000:]
    assert (place / "interrupted").read_text().startswith("interrupted"), log[-3000:]
    assert (place / "ended").read_text().split()[0] == "done", log[-3000:]
    running = most = 0
    for _, kind, _, _ in history(place / "runs" / "long"):
        running += (kind is EventKind.STARTED) - (kind in (EventKind.TOLD, EventKind.FAILED))
        most = max(most, running)
    assert most == 2, "both nodes were used, a job on each"
    assert "going on with" in log
    assert ".token" not in (place / "home").read_text(), "the token outlived its job"
