"""`udever export`: a model for programs that run without torch."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from udever.cli.app import Model, Role, Threads, app, console
from udever.errors import RecipeError
from udever.model_process import load_quietly


@app.command()
def export(
    model: Model,
    output: Annotated[Path, typer.Option("--output", "-o", help="What to write: a file for gguf, else a folder.")],
    format_: Annotated[
        Literal["gguf", "onnx", "openvino"], typer.Option("--format", help="gguf is for llama.cpp and ollama.")
    ],
    precision: Annotated[Literal["f16", "q8_0"] | None, typer.Option(help="Of a GGUF file's weights; f16.")] = None,
    role: Annotated[Role | None, typer.Option(help="A GGUF file for texts of this role alone.")] = None,
    _threads: Threads = None,
) -> None:
    """Write a model for programs without torch, and compare their vectors with the model's own."""
    if format_ != "gguf" and (precision or role):
        given = "--precision" if precision else "--role"
        raise RecipeError(f"{given} is for --format gguf; leave it out for {format_}")
    from udever import exporting
    from udever.storage import check_file, check_replaceable

    if format_ == "gguf":
        check_file(output, [model], own=(".gguf",))
    else:
        check_replaceable(output, "exported", [model])
    embedder = load_quietly(model, "float32", "cpu")
    if format_ == "gguf":
        written = exporting.export_gguf(embedder, output, precision=precision or "f16", role=role)
    else:
        write = exporting.export_onnx if format_ == "onnx" else exporting.export_openvino
        written = write(embedder, output)
    out = console()
    checked = "not compared: llama-cpp-python is not installed"
    if written.cosine is not None:
        checked = f"cosine to the model's vectors {written.cosine:.4f} at least"
    lines = [f"{output}: {_size_mb(output):,.1f} MB, {checked}"]
    lines += [f"  {name}: put {prompt!r} in front of each text" for name, prompt in written.prompts.items() if prompt]
    if embedder.contract.dimensions is not None and format_ == "gguf":
        lines.append(f"  cut vectors to their first {embedder.dimensions} numbers, then scale them to length 1")
    for line in lines:
        out.print(line)


def _size_mb(path: Path) -> float:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6
