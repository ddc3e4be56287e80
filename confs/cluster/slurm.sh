#!/usr/bin/env bash
#SBATCH --job-name=archsearch
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=archsearch-%j.log
# A search on the nodes of one Slurm job:  sbatch confs/cluster/slurm.sh confs/petridish_cifar10.yaml [archsearch's options]
#
# The runs' folder (run.dir) must be on a file system that all nodes share, except the database, which the first node alone
# writes. Two minutes before its time is up, the search is ended in order, and the job queued again: it goes on from there.
# For GPUs add --gpus-per-task=1 to both `sbatch` and the configuration's resources.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: sbatch $0 CONF [--set KEY=VALUE ...]" >&2; exit 2; }

cores=${SLURM_CPUS_PER_TASK:-1}
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000))

# Whoever reaches these ports needs this job's token, which is in a file that only this user can read.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$HOME/.archsearch-$SLURM_JOB_ID.token" RAY_USAGE_STATS_ENABLED=0
# Ray would serve its metrics to everybody, without a token.
export RAY_enable_metrics_collection=0 AUTOSCALER_METRIC_PORT=-1 DASHBOARD_METRIC_PORT=-1
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
(umask 077 && python3 -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH")

# Each node says which address it means: one with several networks would guess.
address_of() { getent ahostsv4 "$1" | awk 'NR == 1 {print $1}'; }
export -f address_of
# shellcheck disable=SC2016  # what stands in single quotes is for the node
start_ray() { # how many nodes, which ones (an option of srun), options of ray
    srun --nodes="$1" --ntasks="$1" "$2" \
        bash -c 'exec ray start --block --node-ip-address="$(address_of "$SLURMD_NODENAME")" "$@"' ray "${@:3}" --num-cpus="$cores" &
}
head_address=$(address_of "$head"):$port
start_ray 1 --nodelist="$head" --head --port="$port" --include-dashboard=false
until ray health-check --address "$head_address" >/dev/null 2>&1; do sleep 1; done
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    start_ray $((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" --address="$head_address"
fi

archsearch supervise "$@" --address "$head_address" &
supervisor=$!
trap 'kill -TERM "$supervisor"' TERM
code=0
wait "$supervisor" || code=$?
if kill -0 "$supervisor" 2>/dev/null; then # the signal ended the first wait, not the supervisor
    code=0
    wait "$supervisor" || code=$?
fi
if [ "$code" -eq 130 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
