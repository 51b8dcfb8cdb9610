"""Threads wait for one another in a way that other processes can live beside, and what others take is told."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch
import typer

from udever.cli import app, main
from udever.processors import BUSY_SPINS, QUIET_SPINS, Company, OthersLoad, use_threads, wait_gently

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture
def environment(monkeypatch):
    """What this process has been told, put back afterwards."""
    for name in (*WAITING, "OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # remembered, so that it is put back
        monkeypatch.delenv(name)
    return monkeypatch


def test_commands_wait_gently_unless_the_environment_says_otherwise(environment):
    environment.setattr(sys, "argv", ["udever", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert os.environ["GOMP_SPINCOUNT"] == str(QUIET_SPINS)
    environment.delenv("GOMP_SPINCOUNT")
    environment.delenv("KMP_BLOCKTIME")
    environment.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_gently()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_threads_are_those_asked_for_here_and_in_what_is_started(environment):
    before = torch.get_num_threads()
    try:
        use_threads(before + 1)
        assert torch.get_num_threads() == before + 1
        assert os.environ["OMP_NUM_THREADS"] == os.environ["RAYON_NUM_THREADS"] == str(before + 1)
    finally:
        torch.set_num_threads(before)


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), {option for parameter in command.params for option in parameter.opts}


def test_every_command_that_computes_takes_the_number_of_threads():
    found = dict(commands(typer.main.get_command(app)))
    with_model = {name for name, options in found.items() if {"--device", "--resume"} & options}
    assert {"train", "adapt", "demo", "index", "search", "embed", "eval", "serve", "negatives"} <= with_model
    assert {name for name, options in found.items() if "--threads" in options} == with_model | {
        "bits",
        "export",
        "plan",
        "quantize",
    }


def stat(path, busy, idle):
    """A /proc/stat in which every processor has been at work so long, in hundredths of a second."""
    numbers = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    lines = [f"cpu{number} {busy} 0 0 {idle} 0 0 0 0 0 0" for number in numbers]
    path.write_text("\n".join(["cpu 0 0 0 0", *lines, "cpu999 9999999 0 0 0 0 0 0", "intr 1 2"]))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux says which processors are ours")
def test_what_other_processes_take_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    monkeypatch.setattr(time, "process_time", lambda: own[0])
    own = [5.0]
    stat(tmp_path / "stat", 1000, 1000)
    load = OthersLoad(tmp_path / "stat")
    assert load.share() is None  # no time has passed
    assert load.processors() is None
    count = len(os.sched_getaffinity(0))
    stat(tmp_path / "stat", 1000 + 600, 1000 + 400)
    own[0] += 1.0 * count
    assert load.share() == pytest.approx(0.5)
    assert load.processors() == pytest.approx(0.5 * count)
    own[0] += 100
    assert load.share() == 0
    assert OthersLoad(tmp_path / "none").share() is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux says which processors are ours")
@pytest.mark.parametrize(
    ("others", "own", "spins"),
    [
        (0.0, 1.0, QUIET_SPINS),  # what this process does itself is no reason to sleep at once
        (0.3, 1.0, QUIET_SPINS),
        (0.5, 0.0, BUSY_SPINS),
        (1.0, 1.0, BUSY_SPINS),
    ],
)
def test_beside_other_work_a_command_lets_its_threads_sleep_at_once(tmp_path, environment, others, own, spins):
    """`others` and `own` are processors' worth, over 0.2 seconds."""
    environment.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    environment.setattr(os, "sysconf", lambda name: 1000)
    clock = [0.0]
    environment.setattr(time, "process_time", lambda: clock[0])
    stat(tmp_path / "stat", 1000, 1000)
    load = OthersLoad(tmp_path / "stat")
    busy = round(200 * (others + own) / 2)
    stat(tmp_path / "stat", 1000 + busy, 1000 + 200 - busy)
    clock[0] += 0.2 * own
    wait_gently(load)
    assert os.environ["GOMP_SPINCOUNT"] == str(spins)


def test_a_command_looks_at_the_machine_while_it_is_imported():
    """The time that imports take is what it looks at, and torch comes later."""
    code = (
        "import sys; sys.argv = ['udever', '--version']\n"
        "from udever import processors\n"
        "seen = []\n"
        "class Load(processors.OthersLoad):\n"
        "    def __init__(self): seen.append('typer' in sys.modules)\n"
        "    def processors(self): seen.append('torch' in sys.modules); return 1.0\n"
        "processors.OthersLoad = Load\n"
        "from udever.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print(seen, __import__('os').environ['GOMP_SPINCOUNT'])"
    )
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"[False, False] {BUSY_SPINS}"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux says which processors are ours")
def test_a_command_imported_in_less_than_the_system_counts_waits_until_the_load_shows(tmp_path, environment):
    stat(tmp_path / "stat", 1000, 1000)
    others = OthersLoad(tmp_path / "stat")
    later = threading.Timer(0.03, stat, [tmp_path / "stat", 2000, 1000])
    later.start()
    wait_gently(others)
    later.join()
    assert os.environ["GOMP_SPINCOUNT"] == str(BUSY_SPINS)


@pytest.mark.parametrize(
    ("spins", "windows", "told"),
    [
        (QUIET_SPINS, [(0.1, 2.0), (1.0, 2.0), (1.0, 3.0), (1.0, 3.0)], [2]),  # others alone cost nothing yet
        (QUIET_SPINS, [(0.1, 2.0), (0.1, 3.0), (0.1, 2.0)], []),  # slower by itself
        (QUIET_SPINS, [(1.0, 3.0), (1.0, 6.0)], []),  # others were there before
        (QUIET_SPINS, [(None, 2.0), (None, 3.0)], []),
        (BUSY_SPINS, [(0.1, 2.0), (1.0, 3.0)], []),
    ],
)
def test_a_run_that_others_join_and_slow_down_sees_it_once(spins, windows, told, environment):
    """A window: how many processors others take, and how many seconds a unit of work."""
    environment.setenv("GOMP_SPINCOUNT", str(spins))
    taken = iter([others for others, _ in windows])

    class Load(OthersLoad):
        def processors(self):
            return next(taken)

    company = Company(Load)
    assert not company.joins(1.0, 100.0)  # too little to tell
    company = Company(Load)
    assert [place for place, (_, pace) in enumerate(windows) if company.joins(60.0, 60.0 / pace)] == told
