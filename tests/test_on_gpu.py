"""The benchmark for a GPU runs in small on the CPU, and writes every case with finite numbers."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "on_gpu.sh"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("gpu") / "deeper" / "on_gpu.json"
    environment = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(SCRIPT), "--device", "cpu", "--small", "--minutes", "50", "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results: dict[str, Any] = json.loads(out.read_text())
    return results


def test_every_step_is_timed(found: dict[str, Any]) -> None:
    programs = ["plain", "naive", "naive, norm", "tracked", *(f"tracked, norm, {m} directions" for m in (4, 16, 64))]
    of_captioner = ["plain", "one word, naive", "one word, naive, norm", "one word, tracked"]
    for precision in ("float32", "bfloat16"):
        for model, batch in (("updn", 256), ("updn", 2048), ("transformer", 64), ("lxmert", 64), ("captioner", None)):
            case = (model, batch, precision)
            rows = [row for row in found["steps"] if (row["model"], row.get("B"), row["precision"]) == case]
            assert "error" not in rows[0], rows[0]
            names = [row["program"] for row in rows]
            assert names == programs if model != "captioner" else set(of_captioner) < set(names)
            assert rows[0]["over_plain"] == 1
            assert all(math.isfinite(row["over_plain"]) and row["over_plain"] > 0 for row in rows)


def test_the_loss_is_timed_in_every_form(found: dict[str, Any]) -> None:
    assert [row["form"] for row in found["losses"]] == ["paper", "gap", "recommended", "dense, gap"] * 2
    assert all(row["median_ms"] > 0 for row in found["losses"])


def test_the_remedy_is_recorded_for_kernels_without_a_second_derivative(found: dict[str, Any]) -> None:
    rows = {(row["kernel"], row["double_backward_kernels"]): row for row in found["kernels"]}
    assert {kernel for kernel, _ in rows} == {
        *("GRU", "LSTM", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH")
    }
    assert all(row["works"] for (_, selected), row in rows.items() if selected)
    assert all(rows[kernel, False]["works"] for kernel in ("GRU", "LSTM", "MATH"))
    flash = rows["FLASH_ATTENTION", False]  # the CPU's flash attention
    assert not flash["works"]
    assert flash["remedy"]


def test_compiled_layers_have_the_gradients_of_eager_ones(found: dict[str, Any]) -> None:
    assert [row["layer"] for row in found["compiled"]] == ["GRU", "LSTM"]
    assert all(row["relative_error"] < 1e-5 for row in found["compiled"]), found["compiled"]


def test_the_librarys_tests_pass(found: dict[str, Any]) -> None:
    (row,) = found["tests"]
    assert " passed" in row["summary"], row
    assert row["failed"] == []


def test_the_version_of_torch_is_recorded(found: dict[str, Any]) -> None:
    assert found["machine"]["torch"] == torch.__version__
