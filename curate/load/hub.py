"""A dataset of the Hugging Face Hub, at one commit.

    - hub: {path: tatsu-lab/alpaca, revision: dce01c9b08f87459cf36a430d809084718273017}

The commit is asked for, because a branch moves and a card that names one cannot be checked. `datasets` fetches and prepares
the data once; what is prepared for that very commit is read from its cache, so later runs need no network. Code of the
repository is never run. Needs the extra `hub`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.contract.errors import MissingExtra, RequestError, SourceError
from curate.contract.progress import say
from curate.load.records import Raw

_TIMEOUT = 10.0  # seconds to wait for the Hub's first answer, before anything that retries


def load(*, path: str, revision: str, config: str | None = None, split: str = "train") -> Iterator[Raw]:
    """Rows of one split; labels stay the integers that the dataset holds.

    path: owner/name. revision: the 40 hex digits of a commit. config: one of the dataset's configurations, where it has
    several. split: the one that is read. Raises SourceError: the Hub cannot be reached (within 10 seconds) and holds no prepared copy here, there is no
    such dataset, commit, configuration or split, or it needs code or a login; RequestError: a revision that is no commit.
    Cost: the download, once; then one row at a time from memory-mapped Arrow files.
    """
    import pyarrow as pa

    from curate.load import arrow

    folder = _prepared(path, revision, config) or _fetched(path, revision, config)
    files, license = _arrow_files(folder, path, split), _license(path, revision)
    number = 0
    for file in files:
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as stream:
            arrow.checked(stream.schema, f"{path} ({split})")
            for fields, fault in arrow.rows(stream):
                number += 1
                problem, raw = fault or (None, None)
                yield Raw(
                    key=f"{folder.parent.parent.name}/{split}#{number}",
                    fields=fields,
                    where=f"{path}/{split}:row:{number}",
                    problem=problem,
                    file=f"{path} ({split})",
                    split=split,
                    revision=revision,
                    license=license,
                    raw=raw,
                )
    if not number:
        raise SourceError(f"hub: the split '{split}' of {path} holds no row")


def describe(*, path: str, revision: str, config: str | None, split: str) -> str:
    """The dataset's name, with its configuration: "glue-rte"."""
    del revision, split
    return "-".join(filter(None, (path.rpartition("/")[2], config)))


def fingerprint(*, path: str, revision: str, config: str | None, split: str) -> dict[str, Any]:
    """The commit says it all; no network is asked."""
    return {"hub": path, "revision": revision, "config": config, "split": split}


def _prepared(path: str, revision: str, config: str | None) -> Path | None:
    """The folder that `datasets` prepared for this very commit, or None."""
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", path):
        raise RequestError(f"hub: `path: {path}` is no dataset; write owner/name, as in tatsu-lab/alpaca")
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise RequestError(
            f"hub: `revision: {revision}` of {path} is no commit, and what it names can move; write the commit's 40 hex digits, "
            f"which stand at https://huggingface.co/datasets/{path}/commits/main"
        )
    try:
        import datasets.config
        from datasets.naming import camelcase_to_snakecase
    except ImportError as error:
        raise MissingExtra("the source `hub` needs the package `datasets`: pip install 'tamis[hub]'") from error
    owner, _, name = path.partition("/")
    root = Path(datasets.config.HF_DATASETS_CACHE).expanduser() / f"{owner}___{camelcase_to_snakecase(name)}"
    folders = [info.parent for info in root.glob(f"{config or '*'}/*/{revision}/dataset_info.json")]
    return folders[0] if len(folders) == 1 else None


def _fetched(path: str, revision: str, config: str | None) -> Path:
    """Downloads and prepares; the folder. `hf://` keeps a local folder of that name from being read in its place."""
    import datasets

    _ask(path, revision)
    say(f"hub: fetching {path} at {revision[:12]}")
    silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()  # they would write over ours
    try:
        fetched = datasets.load_dataset(f"hf://datasets/{path}", config, revision=revision)
    except Exception as error:  # the library raises whatever its readers do
        raise SourceError(f"hub: {path} at {revision[:12]} cannot be loaded: {_in_one_line(error)}") from error
    finally:
        if not silent:
            datasets.enable_progress_bars()
    folders = {Path(entry["filename"]).parent for split in fetched.values() for entry in split.cache_files}
    folder = next(iter(folders), Path())
    if folder.name != revision:  # offline, the library falls back on whatever it prepared last
        raise SourceError(f"hub: `datasets` gave another revision of {path} than {revision}; is the network there?")
    return folder


def _ask(path: str, revision: str) -> None:
    """One quick question, so that a missing network or a wrong name is a sentence at once and not a minute of retries."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        HfApi().dataset_info(path, revision=revision, timeout=_TIMEOUT)
    except GatedRepoError as error:
        raise SourceError(
            f"hub: {path} is gated; accept its terms on the Hub, then log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise SourceError(
            f"hub: {path} has no commit {revision}; its commits stand at /datasets/{path}/commits"
        ) from error
    except RepositoryNotFoundError as error:
        raise SourceError(f"hub: there is no dataset {path}, or it is private: log in with `hf auth login`") from error
    except OfflineModeIsEnabled as error:
        raise SourceError(
            f"hub: {path} at {revision[:12]} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it"
        ) from error
    except HfHubHTTPError as error:
        raise SourceError(f"hub: the Hub refuses {path}: {_in_one_line(error)}") from error
    except Exception as error:  # the HTTP library's own: no route, no name, a timeout
        raise SourceError(
            f"hub: no network to fetch {path} at {revision[:12]} ({_in_one_line(error)}), and no copy in the cache; connect, or "
            "download its files elsewhere and load them with `files:`"
        ) from error


def _arrow_files(folder: Path, path: str, split: str) -> list[Path]:
    splits = json.loads((folder / "dataset_info.json").read_text("utf-8")).get("splits") or {}
    if split not in splits:
        raise SourceError(f"hub: {path} has no split '{split}'; there are: {', '.join(sorted(splits))}")
    ending = re.compile(rf"-{re.escape(split)}(-\d+-of-\d+)?\.arrow")
    return sorted(file for file in folder.glob("*.arrow") if ending.search(file.name))


def _license(path: str, revision: str) -> str | None:
    """What the card at that commit states; the card came with the data, so the cache holds it."""
    from huggingface_hub import DatasetCard, hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        card = hf_hub_download(path, "README.md", repo_type="dataset", revision=revision, local_files_only=True)
        stated = DatasetCard.load(card, repo_type="dataset").data.get("license")
    except (LocalEntryNotFoundError, ValueError, OSError):
        return None
    return " AND ".join(sorted(stated)) if isinstance(stated, list) else stated


def _in_one_line(error: BaseException) -> str:
    """The message of what went wrong first, in one line."""
    while error.__cause__ is not None and type(error).__name__ == "DatasetGenerationError":
        error = error.__cause__
    return " ".join(str(error).split())[:300] or type(error).__name__
