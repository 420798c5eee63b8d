"""What identifies an exported LLaVA folder: the bytes of everything in it that answers depend on."""

import hashlib
import json
from pathlib import Path

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.suite import AskedModel


def is_llava_folder(folder: Path) -> bool:
    """Whether a folder holds a LLaVA checkpoint in Hugging Face's layout."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "llava"


def exported_model(folder: Path) -> AskedModel:
    """A LLaVA folder as it lies.

    Raises:
        UserError: it has no processor or no weights.
    """
    needed = ("processor_config.json", "preprocessor_config.json")
    if not any((folder / name).is_file() for name in needed) or not any(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: not a whole LLaVA folder: needs *.safetensors and a processor's config")
    return AskedModel(_files_hash(folder), lambda _work: folder)


def _files_hash(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt") and path.is_file():
            found.update(f"{path.name} ".encode())
            with path.open("rb") as file:
                found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()
