import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from updn_common.errors import InputError
from updn_common.runs.checkpoint import load_checkpoint, save_checkpoint

REMEDY = "Take the data and the network's sizes that it was trained with."
MakeOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def whole(message: str) -> str:
    return f"^{re.escape(message)}$"


def make_model(out: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, out))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(6, 5, generator=generator)).square().sum().backward()
        optimizer.step()


def assert_bitwise(found: object, expected: object) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        assert found.keys() == expected.keys()
        for key in expected:
            assert_bitwise(found[key], expected[key])
    elif isinstance(expected, Tensor):
        assert isinstance(found, Tensor)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.contiguous().flatten().view(torch.uint8).tolist() == (
            expected.contiguous().flatten().view(torch.uint8).tolist()
        )
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_bitwise(a, b)
    else:
        assert found == expected


OPTIMIZERS: dict[str, MakeOptimizer] = {
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01, betas=(0.8, 0.95), amsgrad=True),
    "AdamW": lambda parameters: torch.optim.AdamW(
        [{"params": parameters[:2], "weight_decay": 0.0}, {"params": parameters[2:], "lr": 0.3}], lr=0.01
    ),
    "Adamax": lambda parameters: torch.optim.Adamax(parameters, lr=0.01),
    "Adadelta": lambda parameters: torch.optim.Adadelta(parameters),
    "Rprop": lambda parameters: torch.optim.Rprop(parameters),
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.01),
    "SGD momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("make_optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
def test_resumed_training_equals_uninterrupted_training(
    tmp_path: Path, make_optimizer: MakeOptimizer, dtype: torch.dtype
) -> None:
    torch.set_default_dtype(dtype)
    try:
        model = make_model()
        optimizer = make_optimizer(list(model.parameters()))
        train(model, optimizer, range(5))
        save_checkpoint(tmp_path / "a.safetensors", model.state_dict(), optimizer, {"step": 5})
        saved = optimizer.state_dict()

        other = make_model()
        nn.init.ones_(other[0].weight)  # type: ignore[index]
        other_optimizer = make_optimizer(list(other.parameters()))
        checkpoint = load_checkpoint(tmp_path / "a.safetensors")
        assert_bitwise(checkpoint.optimizer, saved)
        checkpoint.restore_model(other)
        checkpoint.restore_optimizer(other_optimizer)
        assert_bitwise(dict(other.state_dict()), dict(model.state_dict()))
        assert_bitwise(other_optimizer.state_dict(), saved)

        train(model, optimizer, range(5, 9))
        train(other, other_optimizer, range(5, 9))
        assert_bitwise(dict(other.state_dict()), dict(model.state_dict()))
        assert_bitwise(other_optimizer.state_dict(), optimizer.state_dict())
    finally:
        torch.set_default_dtype(torch.float32)


def test_tensors_of_all_types_are_restored_bitwise(tmp_path: Path) -> None:
    tensors = {
        "double": torch.tensor([0.1, float("nan"), -0.0, float("inf")], dtype=torch.float64),
        "scalar": torch.tensor(0.1),
        "count": torch.tensor(3, dtype=torch.int64),
        "bool": torch.tensor([True, False]),
        "half": torch.tensor([0.1], dtype=torch.float16),
        "empty": torch.zeros(0, 3),
        "bytes": torch.get_rng_state(),
    }
    save_checkpoint(tmp_path / "a.safetensors", tensors, None, {"best": float("-inf"), "x": [1, "é"]})
    checkpoint = load_checkpoint(tmp_path / "a.safetensors")
    assert_bitwise({name: checkpoint.model[name] for name in tensors}, tensors)
    assert checkpoint.progress == {"best": float("-inf"), "x": [1, "é"]}
    assert checkpoint.optimizer is None


def test_tied_overlapping_and_strided_tensors(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"base": base, "tied": base, "slice": base[1:], "transposed": base.T, "expanded": base[:1].expand(2, 4)}
    save_checkpoint(tmp_path / "a.safetensors", tensors)
    found = load_checkpoint(tmp_path / "a.safetensors").model
    assert_bitwise({name: found[name] for name in tensors}, tensors)


def test_tied_parameters_stay_tied(tmp_path: Path) -> None:
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    model, other = tied(), tied()
    save_checkpoint(tmp_path / "a.safetensors", model.state_dict())
    load_checkpoint(tmp_path / "a.safetensors").restore_model(other)
    assert_bitwise(dict(other.state_dict()), dict(model.state_dict()))
    assert other[0].weight is other[1].weight  # type: ignore[index]


def test_files_are_deterministic(tmp_path: Path) -> None:
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters())
    train(model, optimizer, range(2))
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, model.state_dict(), optimizer, {"step": 2, "best": 0.1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, make_model().state_dict())
    checkpoint = load_checkpoint(path)
    model = make_model(out=7)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    message = (
        f"{path} belongs to another model: 2.bias is float32 [3], not float32 [7]; "
        f"2.weight is float32 [3, 4], not float32 [7, 4]. {REMEDY}"
    )
    with pytest.raises(InputError, match=whole(message)):
        checkpoint.restore_model(model)
    assert_bitwise(dict(model.state_dict()), before)
    message = (
        f"{path} belongs to another model: missing bias; missing weight; unexpected 0.bias; unexpected 0.weight; "
        f"unexpected 2.bias; and 1 more. {REMEDY}"
    )
    with pytest.raises(InputError, match=whole(message)):
        checkpoint.restore_model(nn.Linear(5, 4))
    message = (
        f"{path} belongs to another model: 0.bias is float32 [4], not float64 [4]; 0.weight is float32 [4, 5], "
        "not float64 [4, 5]; 2.bias is float32 [3], not float64 [3]; 2.weight is float32 [3, 4], not float64 [3, 4]. "
        f"{REMEDY}"
    )
    with pytest.raises(InputError, match=whole(message)):
        checkpoint.restore_model(make_model().double())


def test_the_auxiliary_network_is_restored(tmp_path: Path) -> None:
    model, beside, other = make_model(), nn.Linear(2, 2), nn.Linear(2, 3)
    file = tmp_path / "last.safetensors"
    save_checkpoint(file, model.state_dict(), auxiliary=beside.state_dict())
    checkpoint, again = load_checkpoint(file), nn.Linear(2, 2)
    checkpoint.restore_model(make_model())
    checkpoint.restore_auxiliary(again)
    assert all(torch.equal(a, b) for a, b in zip(beside.parameters(), again.parameters(), strict=True))
    message = (
        f"{file} belongs to another model: bias is float32 [2], not float32 [3]; weight is float32 [2, 2], not float32 "
        f"[3, 2]. {REMEDY}"
    )
    with pytest.raises(InputError, match=whole(message)):
        checkpoint.restore_auxiliary(other)
    save_checkpoint(file, model.state_dict())
    load_checkpoint(file).restore_auxiliary(nn.Identity())


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    model = make_model()
    optimizer = torch.optim.Adamax(model.parameters())
    train(model, optimizer, range(2))
    save_checkpoint(path, model.state_dict(), optimizer)
    checkpoint = load_checkpoint(path)
    message = f"{path} belongs to another optimiser: parameter groups of [4] tensors, not [2]."
    with pytest.raises(InputError, match=whole(message)):
        checkpoint.restore_optimizer(torch.optim.Adamax(model[0].parameters()))  # type: ignore[index]
    message = (
        f"{path} belongs to another optimiser: options on one side only (betas, capturable, dampening, eps, fused, "
        "momentum, nesterov)."
    )
    with pytest.raises(InputError, match=whole(message)):
        checkpoint.restore_optimizer(torch.optim.SGD(model.parameters()))
    reordered = list(model.parameters())[::-1]
    message = (
        f"{path} belongs to another optimiser: exp_avg of parameter 0 is float32 [4, 5], the parameter float32 [3]; "
    )
    with pytest.raises(InputError, match=re.escape(message)):
        checkpoint.restore_optimizer(torch.optim.Adamax(reordered))
    save_checkpoint(path, model.state_dict())
    message = f"{path} was saved without an optimiser: it cannot be resumed from."
    with pytest.raises(InputError, match=whole(message)):
        load_checkpoint(path).restore_optimizer(optimizer)


def test_files_that_are_not_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=whole(f"{path} does not exist; expected a checkpoint.")):
        load_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path)
    message = f"{path} is a safetensors file, but not a checkpoint of a training run."
    with pytest.raises(InputError, match=whole(message)):
        load_checkpoint(path)
    save_checkpoint(path, make_model().state_dict())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=re.escape(f"{path} is not a readable checkpoint (")):
        load_checkpoint(path)


def test_progress_that_is_not_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(tmp_path / "a", make_model().state_dict(), None, {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []


def test_full_disk_keeps_the_former_checkpoint(small_disk: Path) -> None:
    path = small_disk / "a.safetensors"
    save_checkpoint(path, {"a": torch.ones(3)})
    with pytest.raises(InputError, match=re.escape(f"{path} could not be written: the disk is full (")):
        save_checkpoint(path, {"a": torch.ones(1000, 1000)})
    assert load_checkpoint(path).model["a"].tolist() == [1, 1, 1]
    assert [file.name for file in small_disk.iterdir()] == ["a.safetensors"]
