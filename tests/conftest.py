"""Shared by all tests: one torch thread, no network, tiny real models in real formats."""

import functools
import logging.config
import os
import socket
from collections.abc import Iterator
from pathlib import Path

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# a busy machine is no failure, and the same code passes or fails everywhere alike
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")

TEXT = [
    "",
    "The quick brown fox jumps over the lazy dog. Two naïve chefs in Zürich sold 37 crêpes at the harbour on Monday;",
    'a grey cat slept on the red roof while rain fell. Äpfel, Öl und Übermut. 写真 of a mountain lake — "très joli"!',
    "",
]


@pytest.fixture(autouse=True, scope="session")
def loggers_stay() -> Iterator[None]:
    """Flower's database sets logging up anew, and would silence every logger that other tests listen to."""
    with pytest.MonkeyPatch.context() as patched:
        steady = functools.partial(logging.config.fileConfig, disable_existing_loggers=False)
        patched.setattr(logging.config, "fileConfig", steady)
        yield


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection to another host fails the test."""
    real = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "unix"
        if host not in ("127.0.0.1", "::1", "localhost", "unix"):
            raise AssertionError(f"a test tried to reach {address}")
        real(self, address)  # type: ignore[arg-type]  # as the library's own signature has it

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is written to the user's own cache folder."""
    os.environ.setdefault("FEDCMP_CACHE", str(tmp_path_factory.mktemp("user-cache")))


@pytest.fixture(scope="session")
def world_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder for all tests that run the command: scenes and features are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def byte_level_llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a tiny GPT-NeoX and a byte-level BPE tokenizer: an open vocabulary, no bos, no `<image>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("byte-level-llm")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    torch.manual_seed(1)
    config = GPTNeoXConfig(
        vocab_size=len(fast),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
    )
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def siglip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny SigLIP dual encoder: no class token, 4 x 4 patches of 8 pixels."""
    from transformers import SiglipConfig, SiglipModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(2)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = small | {"vocab_size": 64, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = SiglipConfig(vision_config=small | {"image_size": 32, "patch_size": 8}, text_config=text)
    SiglipModel(config).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
