"""Processes that are forked after an engine was used: data workers of a training in the same notebook, for one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import REPOSITORY
from tests.support.engines import PARAMETERS

pytestmark = [pytest.mark.engines, pytest.mark.slow]

FORKING = """
import gc, os, signal, sys
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper

from lib.deploy import load_graphs

sides = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in ("x", "y")}
body = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "g", [sides["x"]], [sides["y"]])
model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
folder = Path(sys.argv[2])
onnx.save(model, folder / "frame.onnx")
held = [load_graphs(folder, {"frame": {"file": "frame.onnx"}}, sys.argv[1], 2)["locate"]]
held[0].run({"x": torch.ones(64, 64)})
held.append(held)  # freed by the collector alone
child = os.fork()
if not child:
    signal.alarm(60)
    del held
    gc.collect()
    print("collected", flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), held[0].run({"x": torch.ones(64, 64)})["y"].sum().item())
"""


@pytest.mark.parametrize("runtime", PARAMETERS)
def test_a_fork_drops_its_engine_and_ends_with_its_exit_code(runtime: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", FORKING, runtime, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stdout.split()) == (0, ["collected", "7", str(64.0**3)]), done.stderr
