"""Which jobs are foreseen to fit where: CPUs, single GPUs, memory, labels."""

from __future__ import annotations

import pytest

from archsearch.cluster.placement import Board, Node, existing, in_words, matches
from archsearch.jobs import Resources

TWO_GPUS = Node("g", "gpu-host", cpu=8, gpus=2, memory=64 << 30, labels={"kind": "big"})
PLAIN = Node("p", "cpu-host", cpu=4, memory=8 << 30)


@pytest.mark.parametrize(
    ("wants", "number"),
    [
        (Resources(cpu=1), 12),
        (Resources(cpu=3), 3),
        (Resources(cpu=1, gpu=0.6), 2),  # a share lies on one device: 1.2 of two devices, not 3 x 0.6
        (Resources(cpu=1, gpu=0.25), 8),
        (Resources(cpu=1, gpu=0.3333), 6),
        (Resources(cpu=4, gpu=0.25), 2),
        (Resources(cpu=1, gpu=2), 1),
        (Resources(cpu=1, gpu=3), 0),
        (Resources(cpu=1, memory=5 << 30), 8 + 1),  # by CPU on the one, by memory on the other
        (Resources(cpu=1, memory=20 << 30), 3),
        (Resources(cpu=1, labels={"kind": "big"}), 8),
        (Resources(cpu=1, labels={"kind": "!big"}), 4),
        (Resources(cpu=1, labels={"kind": "in(small, big)"}), 8),
        (Resources(cpu=1, labels={"kind": "small"}), 0),
    ],
)
def test_how_many_fit(wants, number):
    board = Board([TWO_GPUS, PLAIN])
    assert board.count(wants) == number
    for _ in range(number):
        assert board.fits(wants)
        board.put(wants)
    assert not board.fits(wants) and board.count(wants) == 0 and not board.homeless
    board.put(wants)
    assert board.homeless == [wants]


def test_a_share_leaves_whole_devices_whole():
    board = Board([TWO_GPUS])
    for _ in range(4):
        board.put(Resources(cpu=1, gpu=0.25))
    assert board.fits(Resources(cpu=1, gpu=1)) and board.count(Resources(cpu=1, gpu=0.5)) == 2
    board.put(Resources(cpu=1, gpu=1))
    assert not board.fits(Resources(cpu=1, gpu=0.25)) and board.fits(Resources(cpu=1))


def test_a_job_that_runs_is_where_it_runs_and_others_leave_gpus_alone():
    board = Board([TWO_GPUS, PLAIN])
    for _ in range(4):
        board.put(Resources(cpu=1))
    assert board.count(Resources(cpu=1, gpu=0.25)) == 8, "jobs without a GPU are foreseen on the node without one"
    board = Board([TWO_GPUS, PLAIN])
    board.put(Resources(cpu=8), node="g")
    assert board.count(Resources(cpu=1, gpu=0.25)) == 0 and board.count(Resources(cpu=1)) == 4


@pytest.mark.parametrize(
    ("selector", "yes", "no"),
    [("a", ["a"], ["b", None]), ("!a", ["b", None], ["a"]), ("in(a, b)", ["a", "b"], ["c", None]), ("!in(a,b)", ["c"], ["a"])],
)
def test_labels_match_as_in_ray(selector, yes, no):
    assert all(matches(value, selector) for value in yes) and not any(matches(value, selector) for value in no)


def test_what_exists_is_said_by_kind():
    found = existing([PLAIN, Node("q", "other", cpu=4, memory=8 << 30), TWO_GPUS])
    text = in_words({"asked": {"cpu": 1, "gpu": 1, "labels": {"kind": "huge"}}, "exists": found})
    assert text == (
        "asks for 1 CPU, 1 GPU, kind=huge; there are 2 nodes with 4 CPU, 8 GB, 1 node with 8 CPU, 2 GPU, 64 GB, kind=big"
    )
