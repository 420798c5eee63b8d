"""The judge of open answers: any server that speaks OpenAI's chat completions, told to lmms-eval by its variables."""

import ast
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import JudgePrompt

KEY_VARIABLE = "OPENAI_API_KEY"
_PATH = "/chat/completions"


@dataclass(frozen=True)
class Judge:
    """Who marks open answers.

    Attributes:
        url: the base of the API, such as http://localhost:8000/v1.
        model: its name there.
        key_variable: the environment variable that holds the key; unset: none is needed.
    """

    url: str
    model: str
    key_variable: str = KEY_VARIABLE

    def variables(self) -> dict[str, str]:
        """What lmms-eval reads; a server without keys gets a word, as an empty one is refused."""
        return {
            "API_TYPE": "openai",
            "OPENAI_API_URL": self.url,
            "OPENAI_API_KEY": os.environ.get(self.key_variable) or "none",
            "MODEL_VERSION": self.model,
        }

    def record(self, prompt_hash: str) -> dict[str, Any]:
        """For the results: the judge's name, its server without any secret, the hash of what it is asked."""
        parts = urlsplit(self.url)
        place = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        return {"model": self.model, "url": place, "prompt_sha256": prompt_hash}


def judge_from(url: str | None, model: str | None, key_variable: str = KEY_VARIABLE) -> Judge | None:
    """The judge that options name; None where they name none.

    Raises:
        UserError: one of the two is missing, or the URL is none.
    """
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise UserError("--judge-url and --judge-model: a judge needs both, its server and its name there")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--judge-url {url}: give the API's base, such as http://localhost:8000/v1")
    return Judge(url.rstrip("/").removesuffix(_PATH), model, key_variable)


def judge_prompt_hash(prompt: JudgePrompt, tasks: Path) -> str:
    """sha256 of what lmms-eval asks the judge, read from its source without running it.

    Raises:
        UserError: this version of lmms-eval keeps it elsewhere.
    """
    path = tasks / prompt.file
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: no judge's prompt here ({error.strerror}); another version of lmms-eval?") from error
    if not prompt.constant:
        return hashlib.sha256(text.encode()).hexdigest()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == prompt.constant for target in node.targets
        ):
            return hashlib.sha256(str(ast.literal_eval(node.value)).encode()).hexdigest()
    raise UserError(f"{path}: has no {prompt.constant}; another version of lmms-eval?")
