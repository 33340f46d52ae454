"""Where Hugging Face models lie, and loading them: safetensors only, no code of a repository, nothing on the terminal."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dosimeter.core.errors import InputError, MissingExtra

if importlib.util.find_spec("transformers") is None:
    raise MissingExtra("Hugging Face targets", "text")

_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "1_Pooling/*", "2_Normalize/*", "2_Dense/*"]


def model_folder(model: str | Path) -> Path:
    """The local folder of ``model``: itself if it is one, else the snapshot of the hub id, downloaded if need be.

    Raises:
        InputError: no such folder, or a hub id that is neither cached nor reachable, or no safetensors weights.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        folder = _snapshot(str(model))
    if not (folder / "config.json").is_file():
        raise InputError(
            f"model folder {folder} has no config.json. Give the folder that save_pretrained() wrote, or a hub id."
        )
    if not any(folder.glob("*.safetensors")):
        raise InputError(
            f"model folder {folder} has no .safetensors weights, and other formats are not read because they can run "
            "code. Save the model again with save_pretrained(..., safe_serialization=True)."
        )
    return folder


def _snapshot(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise InputError(
            f"model folder {model} does not exist. Give an existing folder, or a hub id 'owner/name'."
        )
    missing = f"model '{model}' is neither a folder nor in the local Hugging Face cache, and the hub"
    advice = "Download it on a machine with access and give the path of its folder as 'model'."
    with quiet():
        try:
            cached = Path(snapshot_download(model, allow_patterns=_FILES, local_files_only=True))
            if any(cached.glob("*.safetensors")):
                return cached
        except HFValidationError:
            raise InputError(
                f"model '{model}' is neither an existing folder nor a hub id 'owner/name'."
            ) from None
        except OSError:
            pass
        try:
            return Path(snapshot_download(model, allow_patterns=_FILES, etag_timeout=10))
        except RepositoryNotFoundError:
            raise InputError(f"{missing} has no such public model. Check the name.") from None
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"{missing} cannot be reached ({reason[:120]}). {advice}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and the hub client from writing to the terminal."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    bars, verbosity, hub_bars = (
        logging.is_progress_bar_enabled(),
        logging.get_verbosity(),
        not are_progress_bars_disabled(),
    )
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if hub_bars:
            enable_progress_bars()


def folder_in_package(package: str) -> Path:
    """The model folder inside an installed package; ``InputError`` if there is none."""
    found = (
        importlib.util.find_spec(package.replace("-", "_"))
        if package.isidentifier() or "-" in package
        else None
    )
    if found is None or not found.submodule_search_locations:
        raise InputError(
            f"package '{package}' is not installed. Run: pip install {package.replace('_', '-')}"
        )
    for root in found.submodule_search_locations:
        configs = sorted(Path(root).rglob("modules.json")) or sorted(Path(root).rglob("config.json"))
        if configs:
            return configs[0].parent
    raise InputError(
        f"package '{package}' holds no model folder (no modules.json). Give the folder as 'model'."
    )


def load_pretrained(auto_class: Any, folder: Path, **settings: Any) -> Any:
    """``auto_class.from_pretrained(folder)``, offline; failures are ``InputError``."""
    with quiet():
        try:
            return auto_class.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **settings
            )
        except Exception as error:
            raise InputError(
                f"cannot load {folder} with {auto_class.__name__}: {str(error).splitlines()[0][:200]}. "
                "Check that the folder is complete and that the model needs no code of its own."
            ) from error


def load_network(auto_class: Any, folder: Path, *, needs_pooler: bool) -> Any:
    """The float32 network in ``folder`` in eval mode, parameters frozen.

    Raises:
        InputError: it cannot be loaded, or the weights lack parameters, so that those would be random.
    """
    with quiet():
        network, report = load_pretrained(
            auto_class, folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    missing = sorted(key for key in report["missing_keys"] if needs_pooler or "pooler" not in key)
    if missing:
        raise InputError(
            f"the weights in {folder} lack {', '.join(missing[:5])}{' and more' if len(missing) > 5 else ''}, which "
            f"{type(network).__name__} needs. For embeddings choose pooling: mean or cls; for labels and scores give a "
            "model with a trained head."
        )
    assert isinstance(network, nn.Module)
    return network.eval().requires_grad_(False)
