"""What becomes of failures, by rule; device hours; stalls while a driver slept; what a network needs of a device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from listed_run import Bench, Notes
from small_run import small

from archsearch import api
from archsearch.arch import seed_architecture
from archsearch.arch.build import build
from archsearch.cluster.attempts import Attempts
from archsearch.cluster.inline import InlineExecutor
from archsearch.cluster.ledger import Ledger
from archsearch.cluster.retries import alone, judge
from archsearch.cluster.section import ClusterSection, ResourcesSection
from archsearch.cluster.sharing import share
from archsearch.jobs import (
    RETRIED,
    Completion,
    Event,
    EventKind,
    Failure,
    FailureKind,
    Job,
    Progress,
    Resources,
    Result,
    Stage,
)
from archsearch.store import Artifacts
from archsearch.train.memory import CONTEXT, device_memory

POLICY = ClusterSection(max_attempts=3, backoff=2.0)


def ledger(*kinds, told=1):
    made = Ledger()
    made.told = told
    for number, kind in enumerate(kinds, 1):
        made.apply(Event(number, 0.0, EventKind.FAILED, 1, {"kind": str(kind), "final": False}))
    return made


@pytest.mark.parametrize("kind", sorted(RETRIED - {FailureKind.DEVICE_MEMORY}))
def test_faults_of_the_machine_are_tried_again_with_growing_waits_and_not_for_ever(kind):
    verdicts = [judge(1, Failure(kind, "gone"), ledger(*[kind] * before), POLICY) for before in range(3)]
    assert [verdict.again for verdict in verdicts] == [2.0, 4.0, None] and verdicts[2].final
    nothing_yet = judge(1, Failure(kind, "gone"), ledger(kind, kind, told=0), POLICY)
    assert nothing_yet.held and not nothing_yet.final, "it may be everybody's fault"


def test_device_memory_has_a_rule_of_its_own():
    full = Failure(FailureKind.DEVICE_MEMORY, "CUDA out of memory")
    assert judge(1, full, ledger(FailureKind.LOST, FailureKind.LOST), POLICY).again == 0.0
    after = ledger(FailureKind.DEVICE_MEMORY)
    assert judge(1, full, after, POLICY).final and judge(1, full, after, POLICY).again is None
    assert judge(1, Failure(FailureKind.LOST, "gone"), after, POLICY).again == 2.0, "it is no loss"
    for asked, then in ((0.25, 1.0), ("auto", 1.0), (2.0, 2.0)):
        job = Job(1, Stage.SEARCH, "train", {}, 1, resources=Resources(gpu=asked))
        assert alone(job, after).resources.gpu == then and alone(job, ledger()).resources.gpu == asked


class Clock(InlineExecutor):
    """Runs nothing; its clock is set by hand. Jobs have two devices each."""

    time = 1000.0

    def now(self):
        return self.time

    def placed(self, job):
        return replace(job, resources=replace(job.resources, gpu=2.0))


@pytest.fixture
def attempts(digits, tmp_path):
    events = []
    made = Attempts(ledger(), ClusterSection(stall_timeout=100), lambda kind, job, data: events.append((kind, job, dict(data))))
    made.open(Clock(digits, None), [])
    made.events = events
    asked = Job(7, Stage.SEARCH, "train", {}, 1, resources=Resources(gpu="auto"))
    made.start(made.prepared(asked), asked)
    return made


def look(attempts, *times):
    for attempts.executor.time in times:
        attempts.give_up_stalled(attempts.executor.time)


def test_an_attempt_stalls_after_it_has_begun_and_while_somebody_listens(attempts):
    look(attempts, *range(1000, 2000, 10))
    assert 7 in attempts.running, "it waits for a slot"
    attempts.sign(Progress(7, 1, {}), 2000.0)
    look(attempts, *range(2000, 2090, 10), 5000, 5010)
    assert 7 in attempts.running, "from 2080 to 5000 the driver was suspended and heard nothing"
    look(attempts, *range(5020, 5040, 10))
    assert 7 not in attempts.running
    kind, job, data = attempts.events[-1]
    assert (kind, job, data["kind"]) == (EventKind.FAILED, 7, "stalled")
    assert data["seconds"] == pytest.approx(3030, abs=10) and data["device_seconds"] == 2 * data["seconds"]


def test_device_seconds_are_those_of_the_devices_that_an_attempt_held(attempts):
    assert attempts.events[0][2]["resources"]["gpu"] == 2.0
    attempts.take(Completion(7, 1, Result({}), seconds=30.0), stopping=False)
    assert attempts.events[-1][2]["seconds"] == 30.0 and attempts.events[-1][2]["device_seconds"] == 60.0


def test_a_cancelled_attempt_counts_from_when_it_began(attempts):
    attempts.sign(Progress(7, 1, {}), 1000.0)
    attempts.executor.time = 1020.0
    attempts.cancel("budget used up")
    kind, _, data = attempts.events[-1]
    assert kind is EventKind.CANCELLED and data["seconds"] == 20.0 and data["device_seconds"] == 40.0


class Quick(InlineExecutor):
    """Every job holds three quarters of a GPU for an hour, and ends at once."""

    name = "quick"

    def placed(self, job):
        return replace(job, resources=replace(job.resources, gpu=0.75))

    def wait(self, timeout):
        return [replace(done, seconds=3600.0) if isinstance(done, Completion) else done for done in super().wait(timeout)]


def test_device_hours_end_a_search_and_agree_everywhere(tmp_path):
    config = small(search={"max_hull_points": 50}, budget={"device_hours": 2.0})
    run = api.search(config, run_dir=tmp_path / "run", executor=lambda plan: quick(plan, tmp_path / "run"))
    assert "device_hours" in run.outcome.reason
    search = [record for record in run.state.jobs.values() if record.job.stage is not Stage.EVAL]
    assert len(search) == 3, "two and a quarter hours: the third job passed the limit"
    assert sum(record.device_seconds for record in search) == pytest.approx(3 * 0.75 * 3600)
    assert run.state.device_seconds == pytest.approx(len(run.state.jobs) * 0.75 * 3600)


def quick(plan, path):
    return Quick(plan.dataset, Artifacts(str(path)))


def test_changed_resources_hold_for_jobs_that_wait(digits, tmp_path):
    """``resume --set resources...`` is for a job that waits for what nobody has, too."""
    bench = Bench(tmp_path / "run", digits)
    _, loop = bench.session([{"memory_errors": 0}], observer=Notes(lambda loop: loop.request_stop()))
    assert loop._unfinished()[0].resources.cpu == 1
    loop.resources = {Stage.COMPAT: Resources(cpu=2)}
    assert loop._unfinished()[0].resources.cpu == 1, "nothing was set"
    loop.state.settings["resources.train.cpu"] = 2
    assert loop._unfinished()[0].resources.cpu == 2


def test_resources_by_stage():
    section = ResourcesSection.model_validate(
        {"train": {"cpu": 2, "gpu": "auto"}, "evaluation": {"gpu": 2, "memory": "4GB", "labels": {"kind": "big"}}}
    )
    by_stage = section.by_stage()
    assert by_stage[Stage.SEED_TRAINED] == by_stage[Stage.SEARCH_TRAINED] == by_stage[Stage.EVAL] == Resources(2, "auto")
    assert by_stage[Stage.EVAL_TRAINED] == Resources(1, 2, 4 << 30, {"kind": "big"}) and by_stage[Stage.SEARCH] == Resources()
    with pytest.raises(ValueError, match="only whole GPUs"):
        ResourcesSection.model_validate({"train": {"gpu": 1.5}})


@pytest.mark.parametrize("channels", [4, 16])
@pytest.mark.parametrize("batch", [32, 256])
def test_the_estimate_is_above_what_a_training_step_keeps_and_not_far(channels, batch):
    """Against the tensors that autograd really saves, and parameters, gradients and momentum as they are."""
    arch = seed_architecture((3, 32, 32), 10, cells=3, reductions=1, nodes=2, channels=channels)
    model = build(arch, seed=1)
    saved = {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(torch.randn(batch, 3, 32, 32)).sum()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    activations = sum(size for pointer, size in saved.items() if pointer not in weights)
    loss.backward()
    real = activations + 3 * sum(4 * p.numel() for p in model.parameters())
    spec = {"arch": arch.to_json(), "train": {"batch_size": batch, "optimizer": "sgd"}}
    estimate = device_memory("train", spec, data=0) - CONTEXT
    floor = 0.125 * 1024 / batch  # an evaluation's batch may be larger than a small training step
    assert real < estimate < max(2.0, 1.5 * floor) * real
    assert device_memory("petridish", {"arch": arch.to_json(), "learner": {"batch_size": batch}}, 0) > estimate
    assert device_memory("another", spec, 0) is None


def test_shares_of_a_gpu():
    arch = seed_architecture((3, 32, 32), 10, cells=3, reductions=1, nodes=1, channels=16)
    job = Job(1, Stage.SEARCH, "train", {"arch": arch.to_json(), "train": {"batch_size": 64}}, 1)
    needed = device_memory("train", job.spec, 1 << 20)
    assert share(job, 0, 1 << 20) == 1.0, "memory unknown: alone"
    assert share(job, int(3.3 * needed), 1 << 20) == 0.3333 and share(job, 1000 * needed, 1 << 20) == 0.125
    assert share(job, needed // 2, 1 << 20) == 1.0
