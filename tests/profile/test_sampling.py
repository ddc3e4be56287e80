"""Intervals that hold what they say although runs of one process resemble one another; what is read of the machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from archsearch.jobs import InputError
from archsearch.profile import sampling
from archsearch.profile.environment import (
    EnergyCounter,
    Load,
    choose_cores,
    clock_mhz,
    environment,
    fingerprint,
    load_now,
    temperature,
)
from archsearch.profile.measurement import Measurement
from archsearch.profile.sampling import summarise, width
from archsearch.profile.settings import Settings
from archsearch.profile.taken import Taken


def test_the_interval_holds_another_measurements_median_although_processes_differ(monkeypatch):
    """Times of which each process has its own level (2 % apart) and each block a little one: the interval of five processes
    holds what five others find in 90 % of the cases at least, where one that takes all runs as independent seldom does."""
    monkeypatch.setattr(sampling, "RESAMPLES", 200)
    random, held, naive, trials = np.random.default_rng(3), 0, 0, 150

    def measured() -> NDArray[np.float64]:
        levels = random.normal(10.0, 0.2, size=(5, 1, 1)) + random.normal(0.0, 0.05, size=(5, 4, 1))
        return levels + random.normal(0.0, 0.1, size=(5, 4, 15))

    for trial in range(trials):
        runs, other = measured(), float(np.median(measured()))
        found = summarise(runs.tolist(), "ms", trial)
        held += found.low <= other <= found.high
        naive += abs(found.median - other) <= 1.96 * 1.25 * float(runs.std()) / runs.size**0.5
    assert held >= 0.9 * trials
    assert naive <= 0.5 * trials


def test_what_was_measured_again_until_it_is_narrow_holds_what_another_finds_sooner_than_the_narrowest_does(monkeypatch):
    """Processes whose levels are 3 % apart, on a steady machine and on one that wanders by 2 % between measurements."""
    monkeypatch.setattr(sampling, "RESAMPLES", 100)
    trials, settings = 80, Settings(width=0.05, repeats=6)

    def once(random: np.random.Generator, wander: float) -> Taken:
        levels = random.normal(random.normal(10.0, wander), 0.3, size=(5, 1, 1)) + random.normal(0.0, 0.05, size=(5, 4, 1))
        taken = Taken((levels + random.normal(0.0, 0.1, size=(5, 4, 6))).tolist(), [[]], seconds=1.0)
        taken.judge(settings)
        return taken

    def measured(random: np.random.Generator, wander: float) -> tuple[Measurement, Measurement]:
        """What the protocol makes of it, and the narrowest."""
        joined = narrowest = once(random, wander)
        for _ in range(settings.repeats):
            if joined.because:
                more = once(random, wander)
                joined = joined.joined(more, settings)
                narrowest = min(narrowest, more, key=lambda each: width(each.measured))
        return joined.measured, narrowest.measured

    def held(wander: float) -> NDArray[np.float64]:
        """How often what the protocol makes of it, and the narrowest, hold what another such measurement finds."""
        random, found = np.random.default_rng(5), np.zeros(2)
        for _ in range(trials):
            (joined, narrowest), (other, _) = measured(random, wander), measured(random, wander)
            found += [each.low <= other.median <= each.high for each in (joined, narrowest)]
        return found / trials

    steady, wandering = held(0.0), held(0.2)
    assert steady[0] >= 0.9
    assert wandering[0] >= wandering[1] + 0.05


def test_what_was_taken_while_others_held_the_cores_counts_only_beside_its_like():
    settings = Settings(width=10.0)

    def taken(value: float, waited: float | None) -> Taken:
        found = Taken([[[value] * 3]], [[]], seconds=1.0, waited=waited)
        found.judge(settings)
        return found

    busy, calm = taken(3.0, 0.5), taken(1.0, 0.0)
    assert busy.because and not calm.because
    for one, other in ((busy, calm), (calm, busy)):
        assert one.joined(other, settings).measured == calm.measured
    both = busy.joined(taken(5.0, 0.3), settings)
    assert (both.measured.runs, both.share, len(both.because)) == (6, 0.4, 1)
    assert calm.joined(taken(2.0, None), settings).share is None


def test_a_measurement_says_what_was_seen():
    found = summarise([[[1.0, 2.0], [3.0]], [[], [4.0, 9.0]], []], "ms", 0)
    assert (found.median, found.minimum, found.runs, found.unit, found.iqr) == (3.0, 1.0, 5, "ms", 2.0)
    assert found.low <= 3.0 <= found.high and found.p90 == pytest.approx(7.0) and width(found) > 0
    assert summarise([[[1.0, 2.0], [3.0]], [[4.0, 9.0]]], "ms", 0) == found, "the same runs give the same interval"
    with pytest.raises(ValueError, match="concatenate"):
        summarise([[[]]], "ms", 0)


def test_what_stays_uncertain_is_marked_each_by_itself():
    """A steady latency says nothing of the energy and the memory."""
    taken = Taken([[[2.0] * 9] * 2] * 3, [[[1.0], [9.0]], [[9.0], [1.0]], [[5.0], [1.0]]], seconds=1.0)
    taken.judge(settings := Settings())
    memory = [{"baseline": 1, "load": 1000, "run": run, "apart": True} for run in (1000, 1500)]
    found = taken.profile("pytorch", 1, memory, {"settings": settings.to_json(), "environment": {}})
    assert not found.latency.noisy and found.energy.noisy and found.run_memory.noisy and not found.load_memory.noisy
    still = Taken(taken.launches, [[[0.0]] * 2] * 3, seconds=1.0)
    still.judge(settings)
    assert still.spent is None, "a counter that stands still has measured nothing"


def test_cores_are_physical_ones_first_and_never_too_few(tmp_path: Path):
    for core in range(4):
        topology = tmp_path / f"cpu{core}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{core % 2},{core % 2 + 2}\n")
    assert choose_cores(2, range(4), tmp_path) == [2, 3]
    assert choose_cores(3, range(4), tmp_path) == [1, 2, 3]
    assert choose_cores(1, [0, 1], tmp_path / "nothing") == [1]
    for threads in (0, 5):
        with pytest.raises(InputError, match="may use 4 cores"):
            choose_cores(threads, range(4), tmp_path)


def test_energy_is_that_of_whole_packages_and_absent_where_it_cannot_be_read(tmp_path: Path):
    assert EnergyCounter.find(tmp_path) is None
    for name, kind, turn in (
        ("intel-rapl:0", "package-0", 1000),
        ("intel-rapl:1", "package-1", 5000),
        ("intel-rapl:0:0", "core", 9),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(kind)
        (tmp_path / name / "energy_uj").write_text("900")
        (tmp_path / name / "max_energy_range_uj").write_text(str(turn))
    counter = EnergyCounter.find(tmp_path)
    assert counter is not None and counter.read() == (900.0, 900.0)
    assert counter.spent((900.0, 900.0), (150.0, 2900.0)) == pytest.approx((250 + 2000) / 1000)  # the first began again
    (tmp_path / "intel-rapl:1" / "max_energy_range_uj").unlink()
    untold = EnergyCounter.find(tmp_path)
    assert untold is not None and untold.spent((0.0, 900.0), (150.0, 2900.0)) == pytest.approx(2.15)
    assert untold.spent((0.0, 900.0), (150.0, 100.0)) is None, (
        "where it began again nobody knows: less than nothing would be invented"
    )
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert counter.spent((900.0, 900.0), counter.read()) is None
    assert EnergyCounter.find(tmp_path) is None, "a sum without one package would be invented"


def test_what_the_machine_tells_is_read_and_the_rest_is_none(tmp_path: Path):
    assert temperature(tmp_path) is None and clock_mhz([0], tmp_path) is None
    for zone, value in (("thermal_zone0", "41000"), ("thermal_zone1", "67500"), ("thermal_zone2", "no number")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "temp").write_text(value)
    assert temperature(tmp_path) == 67.5
    for core, value in ((0, "3600000"), (1, "1200000")):
        (tmp_path / f"cpu{core}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{core}" / "cpufreq" / "scaling_cur_freq").write_text(value)
    assert clock_mhz([0, 1], tmp_path) == 1200.0 and clock_mhz([0], tmp_path) == 3600.0


def test_load_is_that_of_others():
    before = Load(cores=2, used=10.0, stolen=1.0, own=4.0, waited=0.5, wall=100.0)
    after = Load(cores=2, used=13.0, stolen=1.4, own=5.0, waited=0.8, wall=102.0)
    assert before.others(after) == pytest.approx(0.5)  # 3 s were used, 1 of them by this process, of 4
    assert before.kept_waiting(after, 2) == pytest.approx(0.7)
    assert before.kept_waiting(after, 1) == pytest.approx(0.5)  # 0.3 in the queue, and half of the 0.4 s stolen from two cores
    crowd = Load(cores=2, used=14.0, stolen=1.0, own=5.9, waited=9.5, wall=102.0)  # 1.9 of 2 s, more threads than cores
    assert before.kept_waiting(crowd, 1) == pytest.approx(0.1), "threads of one process that wait for each other"
    here = load_now()
    assert here.cores >= 1 and here.own > 0 and here.others(here) == 0.0


def test_the_fingerprint_is_stable_and_changes_with_what_decides():
    one = environment(["numpy", "no-such-distribution"], 1, [0])
    assert fingerprint(one) == fingerprint(environment(["no-such-distribution", "numpy"], 1, [0]))
    assert one["packages"]["numpy"] == np.__version__ and one["packages"]["no-such-distribution"] is None
    others = [environment(["numpy"], 1, [0]), environment(["numpy", "no-such-distribution"], 2, [0]), {**one, "cpu": "another"}]
    assert len({fingerprint(one), *map(fingerprint, others)}) == 4
