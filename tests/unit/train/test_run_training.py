"""The end of a training: exit codes, and the message that the user gets."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lib.objectives import Progress
from lib.train import TextSink, Trainer, TrainLog, TrainOptions, run_training
from tests.unit.train.toy import ToyObjective, toy_trainer

At = Callable[[Progress, nn.Module], None]
ARGUMENTS = ["--script", "ostrack", "--config", "synthetic_small", "--device", "cpu"]


def in_epoch_three(act: Callable[[], None]) -> At:
    def at(progress: Progress, network: nn.Module) -> None:
        if network.training and (progress.epoch, progress.step) == (3, 1):
            act()

    return at


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[At | None], tuple[int, str]]]:
    """Run the program over the toy training; gives exit code and log."""

    def run(at: At | None) -> tuple[int, str]:
        def session(options: TrainOptions, world: object) -> Trainer:
            log = TrainLog([TextSink(tmp_path / "x.log")])
            return toy_trainer(tmp_path / "toy", objective=ToyObjective(at=at), log=log)

        monkeypatch.setattr(run_training, "open_session", session)
        return run_training.main(ARGUMENTS), (tmp_path / "x.log").read_text()

    handler, children = signal.getsignal(signal.SIGCHLD), multiprocessing.active_children
    others = children()  # of loaders of other tests
    monkeypatch.setattr(multiprocessing, "active_children", lambda: [c for c in children() if c not in others])
    yield run
    signal.signal(signal.SIGCHLD, handler)


def test_a_finished_training_is_zero(train: Callable[[At | None], tuple[int, str]]) -> None:
    code, log = train(None)
    assert code == 0
    assert "training is complete" in log
    assert "Toy_ep0003.safetensors" in log


def test_an_exception_is_not_zero_and_names_the_last_good_checkpoint(
    train: Callable[[At | None], tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise RuntimeError("a defect in the objective")

    code, log = train(in_epoch_three(fail))
    assert code == 1
    assert "last good checkpoint" in log
    assert "Toy_ep0002_state.pt" in log
    error = capsys.readouterr().err
    assert "a defect in the objective" in error
    assert "Traceback" in error


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_has_its_usual_code(
    train: Callable[[At | None], tuple[int, str]], signum: signal.Signals, code: int
) -> None:
    found, log = train(in_epoch_three(lambda: os.kill(os.getpid(), signum)))
    assert found == code
    assert "Toy_latest_state.pt resumes it: run the same command again" in log


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--set", "TRAIN.LRR=1"], "LRR; did you mean 'LR'?"),
        (["--set", "TRAIN.PARAM_GROUPS=[{PATTERN: nothing}]"], "no pattern matches"),
        (
            ["--set", "TRAIN.SCHEDULER.TYPE=linear"],
            "TRAIN.SCHEDULER.TYPE must be step, Mstep, cosine",
        ),
        (["--set", "DATA.TRAIN.DATASETS_NAME=[LASOTT]"], "LASOT"),
        (
            ["--set", "DATA.VAL={DATASETS_NAME: ['FOLDER:nowhere'], DATASETS_RATIO: [1], SAMPLE_PER_EPOCH: 8}"],
            "docs/own_data.md); TRAIN.VAL_EPOCH_INTERVAL=0 trains without validation",
        ),
        (["--resume", "must"], "no *_state.pt"),
        (["--local-rank=0", "--resume", "must"], "no *_state.pt"),
        (["--load", "nowhere.safetensors"], "nowhere.safetensors: no such file"),
        (["--script_prv", "ostrack", "--config_prv", "none"], "no checkpoint in"),
        (["--use_wandb", "1"], "needs the package wandb: `bash install.sh wandb`"),
    ],
)
def test_a_wrong_setup_is_two_and_one_sentence(
    tmp_path: Path,
    wrong: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lib.train.session.find_spec", lambda name: None)
    small = ["DATA.TRAIN.SAMPLE_PER_EPOCH=32", "TRAIN.NUM_WORKER=0", 'DATA.TRAIN.DATASETS_NAME=["SYNTHETIC:seed=1"]']
    settings = [word for setting in small for word in ("--set", setting)]
    assert run_training.main([*ARGUMENTS, "--save_dir", str(tmp_path), *settings, *wrong]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "fewer TRAIN.NUM_WORKER need less memory",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ..."),
            "/dev/shm), through which data loading processes send batches, is full",
        ),
        (RuntimeError("unable to write to file </torch_7_1>: No space left on device (28)"), "--shm-size=8g"),
        (OSError(errno.EMFILE, "Too many open files"), "`ulimit -n 65536` allows more"),
        (RuntimeError("can't start new thread"), "fewer TRAIN.NUM_WORKER and OMP_NUM_THREADS need fewer"),
        (RuntimeError("received 0 items of ancdata"), "too many open files"),
        (RuntimeError("[enforce fail at inline_container.cc:8] . PytorchStreamWriter failed"), "the disk is full"),
    ],
)
def test_trouble_of_the_machine_is_a_sentence_wherever_it_is_noticed(
    train: Callable[[At | None], tuple[int, str]], capsys: pytest.CaptureFixture[str], trouble: Exception, message: str
) -> None:
    def die() -> None:
        raise trouble

    code, log = train(in_epoch_three(die))
    assert code == 1
    assert "last good checkpoint" in log
    error = capsys.readouterr().err
    assert message in error
    assert "Toy_ep0002_state.pt" in error
    assert "Traceback" not in error


class SlowReads(Dataset[int]):
    """Files of a disk that does not answer."""

    def __getitem__(self, index: int) -> int:
        if index:
            time.sleep(60)
        return index

    def __len__(self) -> int:
        return 8


def fail() -> None:
    raise RuntimeError("a defect")


@pytest.mark.parametrize(
    ("end", "code"), [(None, 0), (lambda: os.kill(os.getpid(), signal.SIGINT), 130), (fail, 1)], ids=str
)
def test_a_training_that_has_ended_does_not_wait_for_data_that_is_still_read(
    train: Callable[[At | None], tuple[int, str]], end: Callable[[], None] | None, code: int
) -> None:
    batches = iter(DataLoader(SlowReads(), batch_size=None, num_workers=2, worker_init_fn=ignore_sigterm))
    next(batches)
    workers = multiprocessing.active_children()
    began = time.monotonic()
    assert train(end and in_epoch_three(end))[0] == code
    del batches
    assert time.monotonic() - began < 15
    assert {worker.exitcode for worker in workers} == {-signal.SIGKILL}


def ignore_sigterm(worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
