"""What becomes of an attempt that failed, and when failures are no longer the candidates' own. Rules, without a state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace

from archsearch.cluster.ledger import Ledger
from archsearch.cluster.section import ClusterSection
from archsearch.jobs import RETRIED, Failure, FailureKind, Job


@dataclass(frozen=True, slots=True)
class Verdict:
    """``again``: seconds until the job is tried again, or None. ``final``: it is abandoned now. ``held``: it is abandoned once
    something has succeeded, since until then the fault may be everybody's. Neither of the three: the next session tries again.
    """

    failure: Failure
    again: float | None = None
    final: bool = False
    held: bool = False


def judge(job: int, failure: Failure, ledger: Ledger, policy: ClusterSection) -> Verdict:
    """What becomes of a job one of whose attempts has failed; ``ledger`` does not count this failure yet."""
    kind, losses = failure.kind, ledger.losses[job]
    if kind is FailureKind.DAMAGED:
        return Verdict(failure)
    if kind is FailureKind.INTERRUPTED:
        return Verdict(failure, again=0.0)
    if kind is FailureKind.DEVICE_MEMORY:
        if not ledger.crowded[job]:
            return Verdict(failure, again=0.0)
        failure = replace(failure, message=f"infeasible, not even alone on a whole device: {failure.message}")
    elif kind in RETRIED and losses + 1 < policy.max_attempts:
        return Verdict(failure, again=policy.backoff * 2**losses)
    return Verdict(failure, final=ledger.told > 0, held=ledger.told == 0)


def alone(job: Job, ledger: Ledger) -> Job:
    """The job as it is tried again: on a whole device if it ran out of the memory of a shared one."""
    if not ledger.crowded[job.id]:
        return job
    gpu = job.resources.gpu
    return replace(job, resources=replace(job.resources, gpu=1.0 if gpu == "auto" else max(1.0, gpu)))


def failing(held: Collection[Failure], ledger: Ledger, policy: ClusterSection) -> str | None:
    """Why the run is to stop, if what fails is not the candidates' fault. ``held``: failures before the first success."""
    # Figures in a message (a step, a loss) do not make it another error.
    messages = Counter(re.sub(r"[\d.]+", "#", failure.message) for failure in held)
    if len(messages) == 1 and len(held) >= policy.first_failures:
        return f"the first {len(held)} jobs all failed with: {next(iter(held)).message}"
    failed = ledger.abandoned + len(held)
    ended = ledger.completed + failed
    if ended >= 10 and failed > policy.max_failure_share * ended:
        return f"{failed} of {ended} jobs failed (cluster.max_failure_share)"
    return None
