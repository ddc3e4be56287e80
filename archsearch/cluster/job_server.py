"""Submitted searches at a cluster's job server (Ray Jobs): send, find, follow and stop them.

A search that is submitted again is another job of the same run: ids are counted, so that two clients at one moment get the
same id and only one of them the job. The run's own lease is what keeps two drivers apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import ray
from ray.job_submission import JobStatus, JobSubmissionClient

from archsearch.cluster.submission import ENTRY_POINT, TO_END, Submission, from_metadata
from archsearch.cluster.supervisor import GAVE_UP, INTERRUPTED
from archsearch.jobs import ArchsearchError, InputError

#: Seconds for which a head may be silent while a job is followed, and between two looks at it.
PATIENCE, LOOK_EVERY = 60.0, 1.0


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """One job at the server. ``began`` is seconds since the epoch; ``exit_code`` is None while it runs."""

    id: str
    submission: Submission
    status: str
    began: float
    exit_code: int | None
    message: str

    @property
    def running(self) -> bool:
        return self.exit_code is None


class JobServer:
    """The job server at ``http://HEAD:8265``. Needs ``ray_environment.prepare_client(address)`` before ray is imported."""

    def __init__(self, address: str) -> None:
        """
        Raises:
            InputError: not an address of a job server.
            ArchsearchError: nobody answers there, or it refuses us.
        """
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"--address {address}: expected the head's dashboard, such as http://head:8265.")
        self.address = address.rstrip("/")
        self.open_to_all = self._asks_for_no_token()
        for name in ("ray", "ray.dashboard.modules.job.sdk"):  # the second sets its own level when it is loaded
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            self._client = JobSubmissionClient(self.address)
        except ray.exceptions.AuthenticationError:
            raise ArchsearchError(
                f"{self.address} asks for a token, and there is none here or this one is not the cluster's. Put the head's "
                "(~/.ray/auth_token there) into ~/.ray/auth_token, readable by you alone, or name its file in "
                "RAY_AUTH_TOKEN_PATH."
            ) from None
        except (RuntimeError, OSError) as error:
            raise self._silent(error) from error

    def _asks_for_no_token(self) -> bool:
        """Whether whoever reaches the server may run code on the cluster."""
        try:
            with urllib.request.urlopen(f"{self.address}/api/authentication_mode", timeout=10) as answer:
                return bool(json.load(answer)["authentication_mode"] != "token")
        except urllib.error.HTTPError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._silent(error) from error

    def _ask(self, question: Callable[..., Any], *arguments: str) -> Any:
        try:
            return question(*arguments)
        except (RuntimeError, OSError) as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> ArchsearchError:
        return ArchsearchError(
            f"no Ray job server answers at {self.address} ({error}). It listens on the head, port 8265 by default, and on its "
            "loopback alone unless `ray start --dashboard-host` says otherwise: `ssh -L 8265:localhost:8265 HEAD` reaches it."
        )

    # ------------------------------------------------------------------------------------------------------------ jobs
    def jobs(self) -> list[SubmittedJob]:
        """Every search that was submitted to this cluster, the oldest first."""
        found = [job for details in self._ask(self._client.list_jobs) if (job := _job(details)) is not None]
        return sorted(found, key=lambda job: job.began)

    def find(self, run_or_job: str) -> SubmittedJob:
        """The job with that id, or the latest of the run with that name or folder.

        Raises:
            InputError: there is none, or two runs have that name.
        """
        jobs = self.jobs()
        wanted = run_or_job.rstrip("/")
        names: list[Callable[[SubmittedJob], str]] = [
            lambda job: job.id,
            lambda job: job.submission.run,
            lambda job: job.submission.folder,
            lambda job: job.submission.name,
        ]
        for name in names:
            found = [job for job in jobs if name(job) == wanted]
            if len({job.submission.run for job in found}) > 1:
                choices = ", ".join(sorted({job.submission.folder for job in found}))
                raise InputError(f"{self.address} has several runs called {wanted}: name the folder, one of {choices}.")
            if found:
                return found[-1]
        known = ", ".join(dict.fromkeys(job.submission.folder for job in jobs)) or "none"
        raise InputError(f"{self.address} knows no submitted run {wanted}. Runs: {known}.")

    def submit(self, what: Submission) -> SubmittedJob:
        """Start a search, or go on with it.

        Raises:
            InputError: it is running.
        """
        before = [job for job in self.jobs() if job.submission.run == what.run]
        for job in before:
            if job.running:
                raise InputError(self._running(job))
        id_ = f"{what.run}.{len(before) + 1}"
        try:
            self._client.submit_job(
                entrypoint=ENTRY_POINT,
                submission_id=id_,
                metadata=what.metadata(),
                # What Ray waits after SIGTERM before it kills; 3 s are too few for the running jobs' checkpoints.
                runtime_env={"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(int(what.grace) + TO_END)}},
            )
        except RuntimeError as error:
            if "already exists" in str(error):
                raise InputError(self._running(self.job(id_))) from None
            raise ArchsearchError(f"{self.address} did not take the job: {error}") from error
        return self.job(id_)

    def _running(self, job: SubmittedJob) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.began))
        return (
            f"the run {job.submission.folder} is running at {self.address} since {since}, as {job.id}: follow it with "
            f"`archsearch logs {job.submission.name}`, or end it with `archsearch stop {job.submission.name}`."
        )

    def job(self, id_: str) -> SubmittedJob:
        """How a job stands now."""
        found = _job(self._ask(self._client.get_job_info, id_))
        assert found is not None, id_
        return found

    def follow(self, id_: str, write: Callable[[str], None]) -> SubmittedJob:
        """Pass on what a job says from its beginning, until it has ended.

        Raises:
            ArchsearchError: the head was silent for too long; the job may go on.
        """
        shown, heard = 0, time.monotonic()
        while True:
            try:
                job = self.job(id_)
                shown = asyncio.run(self._tail(id_, shown, write)) if job.running else shown
                heard = time.monotonic()
                if not job.running:
                    rest = self.logs(id_)[shown:]
                    if rest:
                        write(rest)
                    return job
            except ArchsearchError:
                if time.monotonic() - heard > PATIENCE:
                    raise
            time.sleep(LOOK_EVERY)

    def logs(self, id_: str) -> str:
        """What a job has said so far."""
        return str(self._ask(self._client.get_job_logs, id_))

    async def _tail(self, id_: str, shown: int, write: Callable[[str], None]) -> int:
        """What is said from the ``shown``-th character on, until the connection ends; how many have been shown then."""
        seen = 0
        with contextlib.suppress(RuntimeError, OSError, aiohttp.ClientError):
            async for text in self._client.tail_job_logs(id_):
                new = text[max(0, shown - seen) :]
                seen += len(text)
                if new:
                    write(new)
        return max(shown, seen)

    def stop(self, id_: str) -> SubmittedJob:
        """End a job in order: its running jobs write checkpoints. Returns once it has ended."""
        self._ask(self._client.stop_job, id_)
        while (job := self.job(id_)).running:
            time.sleep(LOOK_EVERY / 4)
        return job


def _job(details: Any) -> SubmittedJob | None:
    what = from_metadata(details.metadata)
    if what is None or details.submission_id is None:
        return None
    codes = {JobStatus.SUCCEEDED: 0, JobStatus.STOPPED: INTERRUPTED, JobStatus.FAILED: details.driver_exit_code}
    ended = details.status.is_terminal()
    code = codes[details.status] if ended else None
    return SubmittedJob(
        details.submission_id,
        what,
        str(details.status.value).lower(),
        (details.start_time or 0) / 1000,
        GAVE_UP if ended and code is None else code,  # lost with its node
        details.message or "",
    )
