"""What only POSIX has is used where its absence was thought of: in a `try`, or behind a test of the system."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "udever"
MODULES = {"fcntl", "grp", "posix", "pwd", "resource", "termios"}
CALLS = {
    "os": (
        "fork",
        "getuid",
        "geteuid",
        "getpgid",
        "killpg",
        "mkfifo",
        "posix_",
        "sched_",
        "setsid",
        "sysconf",
        "uname",
    ),
    "signal": ("SIGKILL", "SIGHUP", "SIGUSR", "SIGALRM", "alarm", "setitimer"),
    "time": ("tzset",),
}
ASKED = ("hasattr", "os.name", "sys.platform", "platform.system")


def posix_only(node: ast.AST) -> str | None:
    """The name of what the node takes from POSIX."""
    match node:
        case ast.Import(names=names):
            return next((alias.name for alias in names if alias.name.split(".")[0] in MODULES), None)
        case ast.ImportFrom(module=str(module)):
            return module if module in MODULES else None
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return f"{owner}.{name}" if name.startswith(CALLS.get(owner, ("\0",))) else None
        case ast.Constant(value=str(text)):
            return text if text.startswith(("/proc/", "/dev/", "/sys/")) else None
    return None


def asks(node: ast.AST) -> bool:
    return any(word in ast.unparse(node) for word in ASKED)


def unguarded(source: str) -> list[str]:
    """What stands neither in a `try` that catches something nor behind a test of the system, as `line: name`."""
    found: list[str] = []

    def walk(body: list[ast.stmt], guarded: bool) -> None:
        for node in body:
            inner = guarded or (isinstance(node, ast.If | ast.Assert) and asks(node.test))
            blocks = [getattr(node, name) for name in ("body", "orelse", "finalbody") if getattr(node, name, None)]
            blocks += [part.body for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ()))]
            of_blocks = {id(part) for block in blocks for part in block}
            if isinstance(node, ast.Try) and node.handlers:
                walk(node.body, True)
                blocks.remove(node.body)
            for part in expressions(node, of_blocks):
                if not inner and (name := posix_only(part)):
                    found.append(f"{part.lineno}: {name}")
            for block in blocks:
                walk(block, inner)
            # `if not hasattr(os, "sysconf"): return` guards what follows it
            guarded |= inner and isinstance(node, ast.If) and isinstance(node.body[-1], ast.Return | ast.Raise)

    walk(ast.parse(source).body, False)
    return found


def expressions(node: ast.AST, left_out: set[int]) -> list[ast.AST]:
    """The node and what it holds, without its blocks of statements."""
    found = [node]
    for child in ast.iter_child_nodes(node):
        if id(child) not in left_out and not isinstance(child, ast.ExceptHandler | ast.match_case):
            found += expressions(child, left_out)
    return found


def test_nothing_takes_posix_for_granted():
    found = {
        str(path.relative_to(SOURCE)): lines
        for path in sorted(SOURCE.rglob("*.py"))
        if (lines := unguarded(path.read_text(encoding="utf-8")))
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import fcntl",
        "from resource import getrusage",
        "def f():\n    return os.sysconf('SC_PHYS_PAGES')",
        "if x:\n    os.kill(pid, signal.SIGKILL)",
        "try:\n    pass\nexcept OSError:\n    os.fork()",
        "try:\n    os.getuid()\nfinally:\n    pass",
        "with open('/proc/cpuinfo') as file:\n    pass",
        "if not hasattr(os, 'sysconf'):\n    x = 1\nos.sysconf('a')",
    ],
)
def test_what_is_unguarded_is_seen(source):
    assert len(unguarded(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None",
        "if hasattr(os, 'posix_fallocate'):\n    os.posix_fallocate(1, 0, 1)",
        "def f():\n    if sys.platform == 'win32':\n        return 0\n    return os.sysconf('a')",
    ],
)
def test_what_is_guarded_is_not(source):
    assert unguarded(source) == []


def test_unknown_memory_asks_for_the_setting(monkeypatch):
    import os

    import torch

    from udever.errors import ModelError
    from udever.training.memory import default_memory_bytes

    monkeypatch.delattr(os, "sysconf")
    with pytest.raises(ModelError, match="set memory_gb"):
        default_memory_bytes(torch.device("cpu"))
