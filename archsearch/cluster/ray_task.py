"""What runs in Ray's workers: the body of an attempt's task, and the actor through which it shows that it lives."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Mapping
from typing import Any

import ray

from archsearch.cluster.context import AttemptContext, perform
from archsearch.cluster.ray_connection import first_line
from archsearch.jobs import JSON, Completion, Failure, FailureKind, Job
from archsearch.store import Artifacts


class Mailbox:
    """Lives in an actor: takes signs of life from workers, hands them to the driver, passes stop requests on."""

    def __init__(self) -> None:
        self.letters: dict[tuple[int, int], tuple[str, Mapping[str, JSON]]] = {}
        self.stops: set[int] = set()

    def post(self, job: int, attempt: int, node: str, progress: Mapping[str, JSON]) -> bool:
        self.letters[job, attempt] = (node, progress)
        return job in self.stops

    def collect(self) -> dict[tuple[int, int], tuple[str, Mapping[str, JSON]]]:
        letters, self.letters = self.letters, {}
        return letters

    def stop(self, job: int) -> None:
        self.stops.add(job)

    def hears(self) -> bool:
        """Asked by a device where a job waits: nobody answers once the driver is gone."""
        return True


def mailbox() -> Any:
    """A mailbox on this process's own node: it goes when this process goes, and with no other node.

    By its label: an affinity that is soft lets a node that has just joined, and knows of no other yet, keep it to itself.
    """
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    return ray.remote(Mailbox).options(num_cpus=0, max_restarts=-1, max_concurrency=4, label_selector=here).remote()


def run_attempt(
    job: dict[str, Any], plain: dict[str, Any], test: bool, root: str, mailbox: Any, gpu: bool, *arrays: Any
) -> Any:
    """Body of a task. ``arrays`` are the data set's splits, resolved by Ray from the node's shared memory."""
    this = Job.from_json(job)
    node = ray.get_runtime_context().get_node_id()
    answer: list[Any] = [mailbox.post.remote(this.id, this.attempt, node, {})]  # before anything that takes long: it has begun
    from archsearch.data import Dataset

    names = [name for name in array_names() if test or not name.endswith("_test")]
    values = {**plain, **dict(zip(names, arrays, strict=True))}
    if not test:
        values |= {name: values[name.replace("_test", "_val")][:0] for name in ("x_test", "y_test")}
    dataset = Dataset(**values)

    def post(progress: Mapping[str, JSON]) -> bool:
        """Send, and read the answer to the message before: a step never waits for the network."""
        stop = False
        with contextlib.suppress(ray.exceptions.RayError):
            if answer and ray.wait(answer, timeout=0)[0]:
                stop = ray.get(answer.pop())
            if not answer:
                answer.append(mailbox.post.remote(this.id, this.attempt, node, progress))
        return stop

    threads = max(1, int(this.resources.cpu))
    context = AttemptContext(this, lambda _: dataset, Artifacts(root), post, "cuda" if gpu else "cpu", threads)
    done = perform(this, context, socket.gethostname())
    if gpu and "torch" in sys.modules:  # this process waits for its next job: what it keeps, its neighbours lack
        sys.modules["torch"].cuda.empty_cache()
    return done


def completed(ref: Any, job: Job, seconds: float) -> Completion:
    """What has become of the attempt whose answer ``ref`` is; ``seconds`` since it began, for one that cannot tell itself."""
    try:
        done: Completion = ray.get(ref)
        return done
    except ray.exceptions.OutOfMemoryError as error:
        failure = Failure(FailureKind.HOST_MEMORY, first_line(error))
    except ray.exceptions.TaskCancelledError:
        failure = Failure(FailureKind.INTERRUPTED, "cancelled")
    except ray.exceptions.RayTaskError as error:  # raised outside the work itself: imports, the data set
        failure = Failure(FailureKind.EXCEPTION, first_line(error.cause or error), str(error))
    except ray.exceptions.RayError as error:  # worker crashed, node died, object or owner lost
        failure = Failure(FailureKind.LOST, f"{type(error).__name__}: {first_line(error)}")
    return Completion(job.id, job.attempt, failure, seconds)


def array_names() -> list[str]:
    """A data set's arrays, in the order in which ``run_attempt`` takes them."""
    return [f"{axis}_{split}" for split in ("train", "val", "test") for axis in ("x", "y")]
