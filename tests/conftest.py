"""Tiny random decoders and tokenizers, built in code. Nothing here or in any test reaches a network.

Test folders are no packages to import from, so what the tests share comes as fixtures: `families` and
`decoders` for folders on disk, `texts_of` for hypothesis, `reference` for plain one-text forward passes.
"""

import gc
import os
import shutil
import signal
import ssl
import subprocess
import sys
import traceback
import warnings
from functools import cache
from types import SimpleNamespace

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"  # tensors here are tiny: threads would only wait for one another
os.environ["RAYON_NUM_THREADS"] = "1"
os.fsync = lambda _: None  # processes are killed here, machines are not
ssl.SSLContext.load_verify_locations = lambda *_, **__: None  # a tenth of a second for each HTTP client; none is secure

from jaxtyping import install_import_hook  # noqa: E402

# Shapes in the signatures of the tensor functions are checked in every test; before udever is imported.
install_import_hook(["udever.model.packing", "udever.training.objectives"], "beartype.beartype")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "udever", deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("udever")

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "[BOQ]", "[EOQ]", "[BOD]", "[EOD]"]
VOCABULARY = 420
CORPUS = ["hello world", "def add(a, b): return a + b", "add two numbers", "what is the sum of numbers"] * 20


def make_tokenizer():
    """A byte-level BPE of about 400 entries in transformers' wrapping, which adds nothing by itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 20,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return wrap_tokenizer(tokenizer)


def wrap_tokenizer(tokenizer):
    """A `tokenizers` tokenizer as transformers loads one."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def make_config(family, **changes):
    """The configuration of a two-layer decoder of `family`, 32 wide."""
    import transformers

    llama = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": 3,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    plain = {name: value for name, value in llama.items() if name != "num_key_value_heads"}
    kinds = {
        "bloom": ("BloomConfig", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_head": 4, "n_layer": 2}),
        "llama": ("LlamaConfig", llama),
        "mistral": ("MistralConfig", {**llama, "sliding_window": 6}),
        "qwen2": ("Qwen2Config", llama),
        "qwen3": ("Qwen3Config", {**llama, "head_dim": 16}),
        "gemma2": (
            "Gemma2Config",
            {**llama, "head_dim": 8, "sliding_window": 6, "attn_logit_softcapping": 2.0},
        ),
        "gemma3_text": ("Gemma3TextConfig", {**llama, "head_dim": 8, "sliding_window": 6}),
        "gpt_neox": ("GPTNeoXConfig", plain),
        "gpt2": ("GPT2Config", {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4}),
        "olmo2": ("Olmo2Config", llama),
        "phi3": ("Phi3Config", llama),
        "opt": ("OPTConfig", {**plain, "ffn_dim": 48, "word_embed_proj_dim": 32}),
        "falcon": ("FalconConfig", plain),
        "xglm": (
            "XGLMConfig",
            {"vocab_size": VOCABULARY, "d_model": 32, "ffn_dim": 48, "num_layers": 2, "attention_heads": 4},
        ),
        "bert": ("BertConfig", plain),
    }
    name, values = kinds[family]
    return getattr(transformers, name)(**{**values, **changes})


def make_model(family, *, seed=0, **changes):
    """A transformers model in eval mode; every weight, bias and norm moved away from its initial value."""
    import torch
    from transformers import AutoModel

    torch.manual_seed(seed)
    model = AutoModel.from_config(make_config(family, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def make_decoder(family, folder, *, tokenizer=None, **changes):
    """Write a model of `family` with its tokenizer to `folder`; return the folder."""
    make_model(family, **changes).save_pretrained(folder)
    (tokenizer or make_tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make():
    """The makers above, for tests that want something of their own."""
    return SimpleNamespace(
        config=make_config,
        decoder=make_decoder,
        model=make_model,
        tokenizer=make_tokenizer,
        wrap_tokenizer=wrap_tokenizer,
        vocabulary=VOCABULARY,
    )


@pytest.fixture(scope="session")
def decoders(tmp_path_factory):
    """family -> a folder with a decoder and its tokenizer, made once. Not to be written to."""

    @cache
    def folder_of(family):
        return make_decoder(family, tmp_path_factory.mktemp(family) / "model")

    return folder_of


@pytest.fixture(scope="session")
def embedders(decoders):
    """(family, contract changes) -> an Embedder in float32, loaded once. Not to be changed."""
    from udever import Embedder

    @cache
    def load(family, **changes):
        return Embedder.load(decoders(family), dtype="float32", device="cpu", **changes)

    return load


@pytest.fixture
def udever(monkeypatch, capsys):
    """The command line as a person types it: `code, out, err = udever("embed", path, ...)`."""
    from udever.cli import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["udever", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        told = capsys.readouterr()
        return code, told.out, told.err

    return run


@pytest.fixture(scope="session")
def alone():
    """hidden states [tokens, hidden] of one text by a transformers model, without a batch or padding."""
    import torch

    def run(model, ids):
        tokens = torch.tensor([ids])
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[0]

    return run


_FILE_EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree", "test.step")


def _run_until(work, event, out):
    """In a child: run `work`, but SIGKILL this process at its file event number `event` (from 0)."""
    seen = 0

    def count(name, _):
        nonlocal seen
        if name in _FILE_EVENTS:
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    sys.addaudithook(count)
    try:
        work()
        os.write(out, str(seen).encode())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


@pytest.fixture(autouse=True)
def one_thread():
    """Every test leaves one thread to compute with, and nothing that a command has set of how threads wait.

    Whatever `--threads` a test parsed: a forked child of a later one has no other threads.
    """
    yield
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ[name] = "1"
    for name in ("GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        os.environ.pop(name, None)
    if "torch" in sys.modules and hasattr(sys.modules["torch"], "set_num_threads"):
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def past():
    """Makes a repository: `past(folder, [(message, {path: content}), ...])` commits so, and writes what it comes to."""

    def make(folder, commits):
        stream = ["feature done\n"]
        for message, files in commits:
            stream.append("commit refs/heads/main\ncommitter a <a@example.org> 1700000000 +0000\n")
            stream.append(f"data {len(message.encode())}\n{message}\n")
            for path, content in files.items():
                stream.append(f"M 100644 inline {path}\ndata {len(content.encode())}\n{content}\n")
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_text(content)
        for arguments in (["init", "-q", "-b", "main"], ["fast-import", "--quiet"]):
            fed = "".join([*stream, "done\n"]).encode()
            subprocess.run(["git", "-C", folder, *arguments], input=fed, check=True, capture_output=True)
        return folder

    return make


@pytest.fixture(scope="session")
def killed():
    """Runs work in a forked child and kills it with SIGKILL in the middle, at an exact place and without a clock.

    `killed(work, event)` lets `work()` run until it is about to do its file operation number `event` (opening,
    renaming, removing, making a folder; `sys.audit("test.step")` in a callback counts as one too), kills it
    there and returns None. Where `work` ends before that, returns how many such operations it did, so that
    `killed(work, 10**9)` counts the places to choose from. Threads of the parent do not live in the child: not for
    work that rests on a thread pool begun before (LanceDB, Ray), which needs a process of its own.
    """

    def run(work, event):
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads; see above
            child = os.fork()
        if child == 0:
            _run_until(work, event, write)
        os.close(write)
        _, status = os.waitpid(child, 0)
        with os.fdopen(read) as told:
            count = told.read()
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL
            return None
        assert os.waitstatus_to_exitcode(status) == 0, "the child failed; its traceback is above"
        return int(count)

    return run


@pytest.fixture(scope="module")  # closed behind each module: two of them at once do not go together
def browser():
    """Chromium, driven by Playwright."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium on the path: install Debian's package chromium")
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


def pytest_collection_finish():
    """Let the garbage collector pass by what imports made, hundreds of thousands of objects that stay."""
    gc.collect()
    gc.freeze()
