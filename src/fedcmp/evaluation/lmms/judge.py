"""The judge of open answers: any server that speaks OpenAI's chat completions, told to lmms-eval by its variables."""

import ast
import hashlib
import json
import os
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from fedcmp.errors import UserError
from fedcmp.evaluation.lmms.benchmarks import JudgePrompt

KEY_VARIABLE = "OPENAI_API_KEY"
_PATH = "/chat/completions"
_PATIENCE = 300  # seconds: a server may have to load its model first


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

    def check(self) -> None:
        """Ask it one short thing: lmms-eval would try each answer many times before it gave up.

        Raises:
            UserError: nobody answers there, or not to this key or path. Other refusals are left to lmms-eval to meet.
        """
        if urlsplit(self.url).username is not None:
            return  # urllib takes no password in an address
        asked = {"model": self.model, "messages": [{"role": "user", "content": "Say 1."}], "max_tokens": 8}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.variables()['OPENAI_API_KEY']}"}
        request = Request(self.url + _PATH, json.dumps(asked).encode(), headers)
        try:
            with urlopen(request, timeout=_PATIENCE) as reply:
                reply.read()
        except HTTPError as error:
            if error.code in (401, 403, 404):
                raise UserError(
                    f"--judge-url {self._place()}: refused with HTTP {error.code}; check the address, the key "
                    f"in {self.key_variable} and --judge-model {self.model}"
                ) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UserError(f"--judge-url {self._place()}: no judge answers there ({reason}); start it") from error

    def _place(self) -> str:
        """Its server without any secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"

    def record(self, prompt_hash: str) -> dict[str, Any]:
        """For the results: the judge's name, its server without any secret, the hash of what it is asked."""
        return {"model": self.model, "url": self._place(), "prompt_sha256": prompt_hash}


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
    try:
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False  # a port that is no number
    if not known:
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
