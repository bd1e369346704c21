"""One checkpoint a run: a safetensors file with weights, moments and the step they belong to. Whole or absent.

Nothing else needs keeping: the order of examples and the random numbers of a step are functions of (seed, step).
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from curate.contract.errors import TrainingError
from curate.contract.files import whole
from train.fit import State


def save(path: Path, state: State, key: str) -> None:
    """Writes ``state`` under the key of its run (what decides its result), atomically."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    with whole(path) as temporary:
        save_file(tensors, temporary, metadata={"step": str(state.step), "key": key})


def load(path: Path, key: str) -> State | None:
    """The state of the run ``key``; None where there is none, or that of another run."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            if facts.get("key") != key:
                return None
            return State(int(facts["step"]), {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except SafetensorError as error:
        raise TrainingError(f"{path} is not a whole checkpoint ({error}); delete it to start the run anew") from error
