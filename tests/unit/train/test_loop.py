"""The loop: exact resume, several processes, accumulation, signals, failures."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lib.data import Batch
from lib.models import WeightsError
from lib.objectives import Losses, Progress
from lib.train import (
    SIGNALS,
    BatchTooLargeError,
    CheckpointFolder,
    InterruptedTraining,
    Interrupts,
    LinesSink,
    NonFiniteLossError,
    NonFiniteWeightsError,
    Position,
    Precision,
    ResumeError,
    TextSink,
    Trainer,
    TrainLog,
    read_state,
)
from tests.unit.train.toy import (
    TRAIN,
    ToyLoader,
    ToyNetwork,
    ToyObjective,
    first_rows,
    killing,
    toy_trainer,
    train_in_world,
)

ROOT = Path(__file__).resolve().parents[3]
TOY = Path(__file__).with_name("toy.py")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def in_child(run: Callable[[], None]) -> int:
    """Run in a forked process; the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(_fork(run), 0)[1])


def in_two_children(run: Callable[[], None], killed: bool = False) -> None:
    """Run in two forked processes that see the environment torchrun gives; `killed`: what they run ends them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(rank: int) -> None:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        os.environ.update(where, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        run()

    children = [_fork(lambda rank=rank: start(rank)) for rank in (0, 1)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert -signal.SIGKILL in codes if killed else codes == [0, 0], codes


def _fork(run: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def weights(folder: Path, epoch: int = 3) -> dict[str, Tensor]:
    return load_file(folder / f"Toy_ep{epoch:04d}.safetensors")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, Tensor]]:
    """Batches per step -> weights of a training that nothing interrupted."""

    @cache
    def train(accumulate: int) -> dict[str, Tensor]:
        folder = tmp_path_factory.mktemp("whole")
        toy_trainer(folder, replace(TRAIN, accumulate=accumulate)).run()
        return weights(folder)

    return train


def test_a_training_is_a_plain_loop_of_pytorch(tmp_path: Path) -> None:
    network = ToyNetwork(dropout=0.0, batch_norm=False)
    plain, log = copy.deepcopy(network), TrainLog([LinesSink(tmp_path / "log.jsonl", Position())])
    train = replace(TRAIN, val_epoch_interval=0)
    toy_trainer(tmp_path, train, network=network, objective=ToyObjective(noise=False), log=log).run()
    backbone = {"params": list(plain.backbone.parameters()), "lr": 1e-3}
    others = {"params": [p for n, p in plain.named_parameters() if "backbone" not in n], "lr": 1e-2}
    optimizer, rates = torch.optim.AdamW([backbone, others], weight_decay=0.1), (1e-3, 1e-2)
    means, step = [], 0
    for epoch in (1, 2, 3):
        errors = []
        for batch in ToyLoader(5, 4).epoch(epoch):
            step += 1
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (0.1 if epoch == 3 else min(1.0, step / 2.5))
            optimizer.zero_grad()
            loss = (plain(batch.search[:, 0]) - batch.search_boxes[:, 0]).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimizer.step()
            errors.append(loss.item())
        means.append(sum(errors) / 5)
    torch.testing.assert_close(network.state_dict(), plain.state_dict())
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = [r["terms"]["Loss/error"] for r in records if r["kind"] == "epoch"]
    assert found == pytest.approx(means, rel=1e-5)


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


@pytest.mark.parametrize(("killed_at", "accumulate"), [((1, 1), 1), ((2, 3), 1), ((3, 0), 1), ((2, 4), 2)])
def test_killed_and_resumed_is_bit_identical(
    tmp_path: Path, killed_at: tuple[int, int], accumulate: int, whole: Callable[[int], dict[str, Tensor]]
) -> None:
    train = replace(TRAIN, accumulate=accumulate)
    killed = ToyObjective(at=killing(*killed_at))
    assert in_child(lambda: toy_trainer(tmp_path, train, objective=killed).run()) == -signal.SIGKILL
    assert not (tmp_path / "Toy_ep0003.safetensors").exists()
    toy_trainer(tmp_path, train).run()
    assert_same(whole(accumulate), weights(tmp_path))


def test_resume_really_starts_in_the_middle(tmp_path: Path) -> None:
    in_child(lambda: toy_trainer(tmp_path, objective=ToyObjective(at=killing(2, 3))).run())
    assert toy_trainer(tmp_path).position == Position(2, 2)


@pytest.mark.slow
def test_two_processes_killed_and_restarted_by_torchrun_are_bit_identical(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    in_two_children(lambda: train_in_world(whole))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=1"]
    command = [sys.executable, *launcher, str(TOY), "--folder", str(parts), "--kill", "2", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "-9" in done.stderr, "no process was killed"
    assert_same(weights(whole), weights(parts))
    other = torch.load(parts / "rank1.pt")
    own = {k: v for k, v in weights(parts).items() if "running" not in k and "tracked" not in k}
    assert_same(own, {k: other[k] for k in own})
    assert own["unused"].eq(1).all(), "a parameter without gradient takes no weight decay"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path, accumulate: int) -> None:
    def plain(batch_size: int) -> dict[str, Any]:
        torch.manual_seed(0)
        train = replace(TRAIN, epoch=1, batch_size=batch_size, accumulate=accumulate, val_epoch_interval=0)
        network = ToyNetwork(dropout=0.0, batch_norm=False)
        return {"train": train, "network": network, "objective": ToyObjective(noise=False)}

    in_two_children(lambda: train_in_world(tmp_path / "two", **plain(4)))
    toy_trainer(tmp_path / "one", **plain(8)).run()
    one, two = weights(tmp_path / "one", 1), weights(tmp_path / "two", 1)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-5, atol=1e-6)


def gradient_step(folder: Path, batch_size: int, accumulate: int) -> dict[str, Tensor]:
    train = replace(TRAIN, epoch=1, batch_size=batch_size, accumulate=accumulate, val_epoch_interval=0)
    torch.manual_seed(0)
    network = ToyNetwork(dropout=0.0, batch_norm=False)
    steps = 4 * accumulate
    toy_trainer(folder, train, network=network, objective=ToyObjective(noise=False), steps=steps).run()
    return network.state_dict()


def test_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    small, large = gradient_step(tmp_path / "a", 4, 2), gradient_step(tmp_path / "b", 8, 1)
    for name in small:
        torch.testing.assert_close(small[name], large[name], rtol=1e-5, atol=1e-6)


def test_rest_of_an_epoch_is_a_smaller_step_of_its_own(tmp_path: Path) -> None:
    seen: list[int] = []
    objective = ToyObjective(at=lambda p, n: seen.append(p.step) if n.training else None)
    trainer = toy_trainer(tmp_path, replace(TRAIN, epoch=1, accumulate=3), objective=objective, steps=5)
    trainer.run()
    assert len(seen) == 5
    assert next(iter(trainer.optimizer.state.values()))["step"] == 2


@pytest.mark.parametrize("signum", SIGNALS)
def test_signal_leaves_a_resumable_state(
    tmp_path: Path, signum: int, whole: Callable[[int], dict[str, Tensor]]
) -> None:
    def at(progress: Progress, network: nn.Module) -> None:
        if network.training and (progress.epoch, progress.step) == (2, 2):
            os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with pytest.raises(InterruptedTraining) as caught:
        toy_trainer(tmp_path, objective=ToyObjective(at=at)).run()
    assert caught.value.exit_code == 128 + signum
    assert signal.getsignal(signum) is before
    trainer = toy_trainer(tmp_path)
    assert trainer.position == Position(2, 3)
    trainer.run()
    assert_same(whole(1), weights(tmp_path))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_terminal_that_is_gone_ends_no_training_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts().noted():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_training_in_a_thread_of_a_program(tmp_path: Path, whole: Callable[[int], dict[str, Tensor]]) -> None:
    """As notebooks and servers do it; signals stay with the program's main thread."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: toy_trainer(tmp_path).run()).result()
    assert_same(whole(1), weights(tmp_path))


def test_signal_in_validation_leaves_a_resumable_state(
    tmp_path: Path, whole: Callable[[int], dict[str, Tensor]]
) -> None:
    def at(progress: Progress, network: nn.Module) -> None:
        if not network.training and progress.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedTraining):
        toy_trainer(tmp_path, objective=ToyObjective(at=at)).run()
    toy_trainer(tmp_path).run()
    assert_same(whole(1), weights(tmp_path))


def test_changed_configuration_is_not_resumed(tmp_path: Path) -> None:
    toy_trainer(tmp_path, replace(TRAIN, epoch=1)).run()
    with pytest.raises(ResumeError, match=r"LR: 0\.01 -> 0\.02"):
        toy_trainer(tmp_path, replace(TRAIN, epoch=1, lr=0.02))


def test_another_number_of_processes_goes_on_at_the_same_sample(tmp_path: Path) -> None:
    in_child(lambda: toy_trainer(tmp_path, objective=ToyObjective(at=killing(2, 4))).run())
    state = read_state(tmp_path / "Toy_latest_state.pt")
    state["world_size"], state["samples_in_epoch"] = 2, 8
    trainer = toy_trainer(tmp_path)
    trainer.restore(tmp_path / "Toy_latest_state.pt", state)
    assert trainer.position == Position(2, 2)


def test_terms_of_the_log_keep_no_graph_of_the_step(tmp_path: Path) -> None:
    trainer, terms = toy_trainer(tmp_path, replace(TRAIN, epoch=1)), list[Tensor]()
    trainer.module.register_forward_hook(lambda _m, _i, output: terms.extend(output[1].values()))
    trainer.run()
    assert len(terms) >= 10
    assert not any(value.requires_grad for value in terms)


def test_non_finite_loss_names_the_samples_and_touches_nothing(tmp_path: Path) -> None:
    class Broken(ToyObjective):
        def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
            losses = super().__call__(network, batch, progress)
            return Losses(losses.total * math.nan, losses.terms) if progress.step == 1 else losses

    trainer = toy_trainer(tmp_path, objective=Broken())
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, step 1.*Loss/error.*toy/sequence:0"):
        trainer.run()
    assert all(p.isfinite().all() for p in trainer.setup.network.parameters())


class Poisoned(ToyObjective):
    """A loss that is not a number in some batches of epoch 1; `rank` alone sees it. Batch norm has seen it, too."""

    def __init__(self, steps: Sequence[int], rank: int = 0, value: float = math.nan) -> None:
        super().__init__()
        self.steps, self.rank, self.value = steps, rank, value

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        poisoned = network.training and progress.epoch == 1 and progress.step in self.steps
        if poisoned and os.environ.get("RANK", "0") == str(self.rank):
            network(batch.search[:, 0] * self.value)
            losses = super().__call__(network, batch, progress)
            return Losses(losses.total * self.value, losses.terms)
        return super().__call__(network, batch, progress)


SKIP = replace(TRAIN, epoch=2, on_nonfinite="skip", max_skipped=2)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_skipped_step_changes_nothing_and_is_logged_by_its_samples(tmp_path: Path, precision: str) -> None:
    log = TrainLog([TextSink(tmp_path / "x.log"), LinesSink(tmp_path / "x.jsonl", Position())])
    train = replace(SKIP, precision=precision)
    trainer = toy_trainer(tmp_path, train, objective=Poisoned([1, 3]), log=log)
    trainer.run()
    assert all(v.isfinite().all() for v in trainer.setup.network.state_dict().values())
    text = (tmp_path / "x.log").read_text()
    assert text.count("warning: step skipped: the loss is not finite in epoch 1") == 2
    assert "toy/sequence:0" in text
    assert "2 non-finite steps skipped" in text
    last = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[-1])
    assert last["nonfinite_steps"] == 2
    assert all(math.isfinite(value) for value in last["terms"].values())
    assert next(iter(trainer.optimizer.state.values()))["step"] == 8 - trainer.precision.overflows


def test_too_many_skipped_steps_in_a_row_are_an_error(tmp_path: Path) -> None:
    toy_trainer(tmp_path / "a", SKIP, objective=Poisoned([0, 1, 3, 4])).run()
    with pytest.raises(NonFiniteLossError, match=r"3 steps in a row .*MAX_SKIPPED.*epoch 1, step 3.*toy/sequence:0"):
        toy_trainer(tmp_path / "b", SKIP, objective=Poisoned([1, 2, 3])).run()


def test_a_loss_above_the_bound_counts_as_not_finite(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"the loss is above TRAIN.MAX_LOSS in epoch 1, step 2"):
        toy_trainer(tmp_path, replace(TRAIN, max_loss=1e4), objective=Poisoned([2], value=1e9)).run()


def test_all_processes_skip_the_step_that_one_of_them_cannot_use(tmp_path: Path) -> None:
    in_two_children(lambda: train_in_world(tmp_path, train=SKIP, objective=Poisoned([1, 3], rank=1)))
    other, mine = torch.load(tmp_path / "rank1.pt"), weights(tmp_path, 2)
    own = {k: v for k, v in mine.items() if "running" not in k and "tracked" not in k}
    assert_same(own, {k: other[k] for k in own})
    assert all(v.isfinite().all() for v in other.values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    def spoil(progress: Progress, network: nn.Module) -> None:
        if network.training and (progress.epoch, progress.step) == (3, 4):
            network.unused.data[1] = math.inf  # type: ignore[operator]

    with pytest.raises(NonFiniteWeightsError, match=r"no checkpoint was written: unused \(1 of \d+ values\)$"):
        toy_trainer(tmp_path, objective=ToyObjective(at=spoil)).run()
    assert not list(tmp_path.glob("Toy_ep0003*"))


def test_an_infinite_learning_rate_leaves_no_checkpoint_behind(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteWeightsError, match=r"no checkpoint was written: .* values\)"):
        toy_trainer(tmp_path, replace(TRAIN, lr=math.inf, state_interval_steps=1)).run()
    assert CheckpointFolder(tmp_path, "Toy").last_good() == "nothing was saved yet"


def test_moments_that_are_not_finite_are_neither_saved_nor_resumed_from(tmp_path: Path) -> None:
    def spoil(trainer: Trainer) -> None:
        next(iter(trainer.optimizer.state.values()))["exp_avg_sq"].view(-1)[0] = math.inf

    trainer = toy_trainer(tmp_path, replace(TRAIN, epoch=1))
    trainer.run()
    path = tmp_path / "Toy_ep0001_state.pt"
    state = read_state(path)
    next(iter(state["optimizer"]["moments"].values()))["exp_avg"].view(-1)[0] = math.nan
    with pytest.raises(WeightsError, match=r"Toy_ep0001_state\.pt: 1 tensor holds .*exp_avg of .*\(1 of"):
        trainer.restore(path, state)
    spoil(trainer)
    with pytest.raises(NonFiniteWeightsError, match="exp_avg_sq of "):
        trainer._save(trainer.folder.save_latest)


def test_gradients_of_processes_are_summed_on_request(tmp_path: Path) -> None:
    def plain(batch_size: int, **own: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        train = replace(TRAIN, epoch=1, batch_size=batch_size, val_epoch_interval=0, optimizer="SGD", **own)
        train = replace(train, grad_clip_norm=0.0, weight_decay=0.0)
        return {"train": train, "network": ToyNetwork(0.0, batch_norm=False), "objective": ToyObjective(noise=False)}

    in_two_children(lambda: train_in_world(tmp_path / "two", **plain(4, sum_gradients=True)))
    toy_trainer(tmp_path / "one", **plain(8, lr=2 * TRAIN.lr)).run()
    one, two = weights(tmp_path / "one", 1), weights(tmp_path / "two", 1)
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)


class Hungry(ToyObjective):
    """Needs more memory than there is for more than three samples."""

    def __call__(self, network: nn.Module, batch: Batch, progress: Progress) -> Losses:
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")
        return super().__call__(network, batch, progress)


def test_out_of_memory_says_what_to_set_instead(tmp_path: Path) -> None:
    with pytest.raises(BatchTooLargeError, match=r"BATCH_SIZE 8 .*BATCH_SIZE=4 TRAIN.ACCUMULATE=2; .*bf16"):
        toy_trainer(tmp_path, replace(TRAIN, batch_size=8), objective=Hungry()).run()


def test_tf32_is_a_number_format_of_products_on_a_gpu() -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        for name, device, expected in (("tf32", "cpu", False), ("tf32", "cuda", True), ("fp32", "cuda", False)):
            with Precision(name, torch.device(device)).autocast():
                assert not torch.is_autocast_enabled(device)
            assert matmul.allow_tf32 is expected
        assert cudnn.allow_tf32
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_runs_and_resumes(tmp_path: Path, precision: str) -> None:
    train = replace(TRAIN, precision=precision)
    toy_trainer(tmp_path / "whole", train).run()
    in_child(lambda: toy_trainer(tmp_path / "parts", train, objective=ToyObjective(at=killing(2, 3))).run())
    toy_trainer(tmp_path / "parts", train).run()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_objective_that_splits_adds_gradients(tmp_path: Path) -> None:
    class Split(ToyObjective):
        keeps_eval_mode = False

        def split(self, network: nn.Module, batch: Batch, progress: Progress) -> Sequence[Batch]:
            assert not torch.is_grad_enabled()
            return [first_rows(batch, 2), first_rows(batch, 2)]

    train = replace(TRAIN, epoch=1, grad_clip_norm=0.0, val_epoch_interval=0)
    norms = []
    for objective in (ToyObjective(noise=False), Split(noise=False)):
        torch.manual_seed(0)
        trainer = toy_trainer(
            tmp_path / type(objective).__name__, train, network=ToyNetwork(0.0, False), objective=objective
        )
        batch = first_rows(next(trainer.setup.train_loader.epoch(1)), 2)
        norms.append(trainer.train_step([batch], Progress(1, 1), 1.0).grad_norm)
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-5)


def test_fixed_batch_norm_keeps_its_averages(tmp_path: Path) -> None:
    network = ToyNetwork()
    toy_trainer(tmp_path, replace(TRAIN, epoch=1, fix_bn=True), network=network).run()
    assert network.norm.running_mean.eq(0).all()


def test_lines_of_the_log_are_those_of_one_run(tmp_path: Path) -> None:
    def run(**changes: Any) -> None:
        trainer = toy_trainer(tmp_path, **changes)
        trainer.log = TrainLog([LinesSink(tmp_path / "log.jsonl", trainer.position)])
        trainer.run()

    in_child(lambda: run(objective=ToyObjective(at=killing(3, 3))))
    (tmp_path / "log.jsonl").open("a").write('{"half a li')
    run()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    found = [(r["loader"], r["kind"], r["epoch"], r["step"]) for r in records]
    steps = [[("train", "step", e, 2), ("train", "step", e, 4), ("train", "epoch", e, 5)] for e in (1, 2, 3)]
    assert found == [*steps[0], *steps[1], ("val", "epoch", 2, 2), *steps[2]]
    assert records[0]["terms"].keys() == {"Loss/total", "Loss/error"}
    assert records[0]["lr"] == pytest.approx([1e-2 * 2 / 2.5, 1e-3 * 2 / 2.5])
