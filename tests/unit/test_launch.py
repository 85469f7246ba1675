"""Processes under torchrun: how they meet, end, and get signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from lib.device import DeviceError
from lib.distributed import World, meet, network_notes, pick_device
from lib.launch import run_and_forward_signals, run_under_torchrun

REPOSITORY = Path(__file__).resolve().parents[2]
PARENT = """
import subprocess, sys, time
code = "import time; from lib.launch import end_with_parent as e; e(); print(1, flush=True); time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


PROGRAM = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from lib import command, distributed
world = distributed.start("cpu")
assert distributed.network_notes() == []
fresh = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
claim = world.store.add("claims", 1)
assert sorted(world.gather(claim)) == [1, 2]
if world.rank == 1 and fresh:
    os.kill(os.getpid(), signal.SIGKILL)
sockets = {line.split()[1] for name in ("tcp", "tcp6") for line in open(f"/proc/self/net/{name}") if " 0A " in line}
address = f"0100007F:{int(os.environ['MASTER_PORT']):04X}"
assert address in sockets, (address, sockets)
assert not any(s.endswith(address[8:]) and s != address for s in sockets), "the store listens on other addresses too"
agreed = world.all_reduce_max(world.rank)
if world.is_main:
    print("agreed", agreed, flush=True)

def fail():
    raise ValueError("the same in all processes")

command.run_in_child = lambda: None
code = command.run_command(fail)
distributed.stop(world)
sys.exit(code + 5)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_processes_share_a_loopback_store_are_started_again_and_pass_on_their_exit_code(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is killed; both find an empty store when they start again, and fail in the end; one of them reports it."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("PET_MAX_RESTARTS", "1")  # an option of torchrun as a variable
    assert run_under_torchrun(program, [str(REPOSITORY)], 2) == 7
    assert list((tmp_path / "temporary").iterdir()) == []
    said = capfd.readouterr()
    assert said.out.count("agreed (1,)") == 1
    assert "ended with exit code 7" in said.err
    assert said.err.count("the same in all processes") == 1
    # The launcher has none; the process whose partner was killed may have one, after its rank.
    assert not any(line.startswith("Traceback") for line in said.err.splitlines())


UNDER_PLAIN_TORCHRUN = """
import os, sys
sys.path.insert(0, sys.argv[1])
from lib import distributed
world = distributed.start("cpu")
ports = [world.store.underlying_store.underlying_store.port, int(os.environ["MASTER_PORT"])]
assert ports[0] != ports[1] and len(set(world.gather(ports[0]))) == 1, ports
sockets = {line.split()[1] for name in ("tcp", "tcp6") for line in open(f"/proc/self/net/{name}") if " 0A " in line}
assert [s for s in sockets if s.endswith(f":{ports[0]:04X}")] == [f"0100007F:{ports[0]:04X}"], sockets
assert sorted(world.gather(world.store.add("claims", 1))) == [1, 2]
distributed.stop(world)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux")
def test_processes_of_torchrun_itself_meet_on_loopback_too(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(UNDER_PLAIN_TORCHRUN)
    line = ["torch.distributed.run", "--nproc_per_node=2", "--standalone", str(program), str(REPOSITORY)]
    done = subprocess.run([sys.executable, "-m", *line], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr


def test_what_listens_beyond_loopback_is_stated() -> None:
    one = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_PORT": "29500"}
    assert network_notes({}) == network_notes({**one, "TORCHELASTIC_RUN_ID": "loopback"}) == []
    assert "torchrun itself listens on port 29500 of every interface" in network_notes(one)[0]
    several = {**one, "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node0"}
    assert "node 0 (node0) listens on port 29500 of every interface" in network_notes(several)[0]


@pytest.mark.parametrize("left_over", [True, False])
def test_who_waits_for_processes_that_no_torchrun_has_started_says_so(
    left_over: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "node7", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if not left_over:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setattr("torch.distributed.rendezvous", lambda url, timeout: iter([("store", 0, 4)]))
    assert meet(timedelta(seconds=1)) == "store"
    said = "waiting for the other processes of RANK=0 WORLD_SIZE=4 MASTER_ADDR=node7 MASTER_PORT=29500"
    assert (said in capsys.readouterr().err) == left_over


def test_exit_code_is_passed_on() -> None:
    assert run_and_forward_signals([sys.executable, "-S", "-c", "raise SystemExit(7)"], dict(os.environ)) == 7


@pytest.mark.slow
def test_ctrl_c_reaches_the_processes_once() -> None:
    child = (
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGINT, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "time.sleep(1.0); time.sleep(0.3)\n"
        "print(len(seen), flush=True); sys.exit(1)\n"
    )
    program = (
        "import os, sys\n"
        "from lib.launch import run_and_forward_signals\n"
        f"sys.exit(run_and_forward_signals([sys.executable, '-S', '-c', {child!r}], dict(os.environ)))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout.readline() == "1\n"
    assert process.wait() == 130


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux")
def test_a_process_ends_with_the_one_that_started_it() -> None:
    parent = start(PARENT)
    child = int(line_of(parent))
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{child}/stat").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.05)


def test_one_process_is_a_world_with_a_store_of_its_own() -> None:
    first, second = World(torch.device("cpu")), World(torch.device("cpu"))
    assert (first.store.add("claims", 1), first.store.add("claims", 1), second.store.add("claims", 1)) == (1, 2, 1)


def test_missing_gpu_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DeviceError, match="cuda"):
        pick_device("cuda")
    assert pick_device("auto", 1, 2)[0] == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    with pytest.raises(DeviceError, match=r"2 processes .* 1 CUDA"):
        pick_device("auto", 1, 2)
    monkeypatch.setattr("lib.distributed.choose_device", lambda name: (name, ""))
    assert [pick_device("auto", rank, 4, share_gpus=0)[0] for rank in range(3)] == ["cuda:0"] * 3


@pytest.mark.parametrize(
    ("load", "given", "expected"), [(0.0, None, None), (1e9, None, "PASSIVE"), (1e9, "ACTIVE", "ACTIVE")]
)
def test_threads_spin_unless_the_machine_is_busy(load: float, given: str | None, expected: str | None) -> None:
    code = f"import os; os.getloadavg = lambda: ({load}, 0, 0); import lib; print(os.environ.get('OMP_WAIT_POLICY'))"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == str(expected), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="closes file numbers")
def test_streams_that_are_closed_lead_nowhere_and_lend_no_file_their_numbers() -> None:
    code = (
        "import os, sys; from lib.command import prepare_streams as p; p(); print(1); print(1, file=sys.stderr);"
        "sys.stdout.flush(); os._exit(3 if open(os.devnull).fileno() > 2 and not sys.stderr.isatty() else 1)"
    )
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(closing, cwd=REPOSITORY, check=False).returncode == 3


SWALLOWING = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except:
    pass
"""


@pytest.mark.parametrize("entry", ["import _bootstrap", "from lib.command import expect_interrupts as e; e()"])
@pytest.mark.parametrize("at", ["import library", "raise KeyboardInterrupt"])
def test_ctrl_c_is_one_word_also_in_an_import_that_would_swallow_it(tmp_path: Path, entry: str, at: str) -> None:
    (tmp_path / "library.py").write_text(SWALLOWING)
    kept = f"import tempfile; folder = tempfile.TemporaryDirectory(dir={str(tmp_path)!r})"
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tracking", tmp_path)))
    # A shell that starts the tests in the background has them ignore Ctrl-C, and what they start with them.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    line = [sys.executable, "-c", f"{heard}; {entry}; {kept}; {at}; print('goes on')"]
    done = subprocess.run(line, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "\nstopped\n")
    assert done.returncode in (130, -signal.SIGINT)  # both are 130 for a shell
    assert [p.name for p in tmp_path.iterdir() if p.is_dir() and p.name != "__pycache__"] == []


def test_a_pipe_that_reads_no_further_is_no_error() -> None:
    code = "import sys; from lib.command import run_command; sys.exit(run_command(lambda: print('x' * 10**6)))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
