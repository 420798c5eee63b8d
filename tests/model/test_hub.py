"""Hub names: with a hub (a small server here), without one, and from its cache alone."""

import json
import shutil
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import close_session, constants
from transformers import AutoConfig, LlamaConfig

from fedcmp.errors import UserError
from fedcmp.model import hub
from fedcmp.model.language import LanguageModel
from fedcmp.model.locations import load, resolve
from fedcmp.model.sizes import NoConfigError, language_size, vision_size
from fedcmp.model.vision import VisionEncoder

KEY = "model.language"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = LlamaConfig(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=50)


@pytest.fixture(autouse=True)
def online(monkeypatch, tmp_path):
    """As without HF_HUB_OFFLINE, with an empty cache and nothing remembered."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "_asked", None)
    monkeypatch.setattr(hub, "_PAUSE", 0.0)
    close_session()  # one that was made offline refuses to ask
    yield
    close_session()


def point_to(monkeypatch, address):
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def server(monkeypatch):
    """A hub that has one model, owner/llm; its attribute `asked` counts what it was asked for."""
    content = json.dumps(CONFIG.to_dict()).encode()

    class Hub(BaseHTTPRequestHandler):
        status = 404

        def do_HEAD(self):
            self.server.asked[self.path] += 1
            there = self.path == "/owner/llm/resolve/main/config.json" and Hub.status == 404
            self.send_response(200 if there else Hub.status)
            if there:
                self.send_header("ETag", '"1"')
                self.send_header("X-Repo-Commit", COMMIT)
            elif Hub.status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", str(len(content) if there else 0))
            self.end_headers()
            return there

        def do_GET(self):
            if self.do_HEAD():
                self.wfile.write(content)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as served:
        served.asked, served.kind = Counter(), Hub
        threading.Thread(target=served.serve_forever, daemon=True).start()
        point_to(monkeypatch, f"http://127.0.0.1:{served.server_address[1]}")
        yield served
        served.shutdown()


@pytest.fixture
def nobody(monkeypatch):
    """No hub: the questions that nobody answers."""
    point_to(monkeypatch, "http://127.0.0.1:1")
    asked = []
    real = hub.get_hf_file_metadata

    def counted(url, **options):
        asked.append(url)
        return real(url, **options)

    monkeypatch.setattr(hub, "get_hf_file_metadata", counted)
    return asked


def test_a_hub_that_answers_is_asked_as_before(server):
    assert load(AutoConfig, "owner/llm", KEY).hidden_size == 8
    assert language_size("owner/llm").width == 8  # from the cache
    assert hub.cached_folder("owner/llm").name == COMMIT
    with pytest.raises(
        UserError, match=r"model.language = 'owner/none': transformers cannot load it \(owner/none is not"
    ):
        load(AutoConfig, "owner/none", KEY)
    assert hub.unreachable("owner/llm") is None


def test_without_a_network_one_line_says_what_to_do_and_the_hub_is_asked_for_one_name_only(nobody, caplog):
    begun = time.monotonic()
    for key, name, work in (("vision", "a/clip", vision_size), ("language", "a/llm", language_size)):
        with pytest.raises(NoConfigError) as caught:
            work(name)
        assert str(caught.value).startswith(f"model.{key} = '{name}': not in the hub's cache, and the hub cannot be ")
        assert "refused" in str(caught.value)
        assert "local folder" in str(caught.value)
        assert "HF_HUB_OFFLINE=1" in str(caught.value)
    assert len(nobody) == 2  # twice for the first name
    assert time.monotonic() - begun < 3
    assert caplog.records == []


def test_without_a_network_the_cache_is_enough(nobody, tmp_path):
    """Configs, tokenizer, image processor and weights: nothing of it asks the hub again."""
    for part in ("vision", "language"):
        model = tmp_path / "cache" / f"models--owner--{part}"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text(COMMIT)
        shutil.copytree(resolve("world", part, KEY), model / "snapshots" / COMMIT)
    begun = time.monotonic()
    assert LanguageModel("owner/language").location == "owner/language"
    assert VisionEncoder("owner/vision").fingerprint() == VisionEncoder("world").fingerprint()
    assert time.monotonic() - begun < 10  # one name that is asked for takes 23 s
    assert len(nobody) == 2
    for file in (tmp_path / "cache" / "models--owner--language" / "snapshots" / COMMIT).glob("tokenizer*"):
        file.unlink()
    said = r"= 'owner/language': cannot be loaded from the hub's cache \(.*\), and the hub cannot be reached \("
    with pytest.raises(UserError, match=said):
        LanguageModel("owner/language")


def test_a_hub_that_fails_is_one_that_is_not_there(server):
    server.kind.status = 503
    with pytest.raises(UserError, match=r"the hub cannot be reached \(it answers with 503\)"):
        load(AutoConfig, "owner/none", KEY)


def test_an_answer_is_remembered_for_a_while_only(nobody, monkeypatch):
    assert hub.unreachable("a/llm")
    monkeypatch.setattr(hub, "_asked", (time.monotonic() - 601, hub._asked[1]))
    assert hub.unreachable("a/llm")
    assert len(nobody) == 4


def test_offline_nothing_is_asked(nobody, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="not in the hub's cache, and HF_HUB_OFFLINE=1 forbids to ask the hub; give"):
        load(AutoConfig, "a/llm", KEY)
    assert nobody == []
