"""What was typed wrongly on the command line, as one line that says how to write it.

One grammar for all commands: what is read (files, folders, an index, a question) stands by its place, the model is
`-m`, what is written is `-o`.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from udever.errors import RecipeError
from udever.nearest import nearest, suggestion

UsageError: Any = typer.BadParameter.__base__  # typer's own or click's, as its version has it

_ARGS = "udever.arguments"
_MODEL_FILES = ("udever.json", "modules.json", "adapter_config.json", "tokenizer_config.json")
_BASELINES = ("bm25", "char-tfidf", "random")


class Group(TyperGroup):
    """Commands whose mistakes in use are RecipeErrors of one line."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's."""
        ctx.meta[_ARGS] = list(args)
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            raise _told(error, ctx) from None

    def invoke(self, ctx: Any) -> Any:
        """As typer's."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            raise _told(error, ctx) from None


def _told(error: Any, ctx: Any) -> Exception:
    """The same error as RecipeError; help that was asked for by giving nothing stays as it is."""
    if type(error).__name__ == "NoArgsIsHelpError":
        return error
    given = ctx.meta.get(_ARGS, [])
    if error.ctx is None:  # an option at the end of the line, without its value
        return RecipeError(f"udever {given[0]}: {_lowered(error.message)}")
    return RecipeError(_explain(error, given))


def _explain(error: Any, given: Sequence[str]) -> str:
    context = error.ctx
    name = " ".join(_names(context))
    kind = type(error).__name__
    if kind == "NoSuchOption":
        return f"{name} has no option {error.option_name}; {_near_option(error.option_name, context)}"
    if unknown := re.match(r"""No such command (['"])(.*?)\1""", error.message):
        word = unknown[2]
        near = nearest(word, context.command.commands)
        hint = f"{name} --help lists them" if near is None else f"did you mean {near!r}?"
        return f"there is no command {word!r}; {hint}"
    if kind == "MissingParameter" or error.message.startswith("Got unexpected extra argument"):
        return _misplaced(error, name, next(_models(given[len(_names(context)) - 1 :]), None))
    label = _label(error.param) if getattr(error, "param", None) is not None else ""
    if "is not one of" in error.message:
        word, *choices = re.findall(r"'(.*?)'", error.message)
        return f"{name}: {label} is {word!r}; {suggestion(word, choices)}"
    return f"{name}: {f'{label}: ' if label else ''}{_lowered(error.message)}"


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _names(context: Any) -> list[str]:
    """The words that lead to a command: `udever classify fit`."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return ["udever", *names]


def _label(parameter: Any) -> str:
    """A parameter as one writes it: `--top-k`, `QUERY`."""
    if parameter.param_type_name == "option":
        return max(parameter.opts, key=len)
    return (parameter.metavar or parameter.name).strip("[]").upper()


def _near_option(option: str, context: Any) -> str:
    known = {word.lstrip("-"): word for p in context.command.get_params(context) for word in p.opts}
    known = {**{word.partition("-")[0]: known[word] for word in reversed(known)}, **known}  # --label: --label-column
    near = nearest(option.lstrip("-"), known)
    return f"{' '.join(_names(context))} --help lists them" if near is None else f"did you mean {known[near]}?"


def _misplaced(error: Any, name: str, model: str | None) -> str:
    """A missing or superfluous argument, with the form of the command; a model by its place is the usual cause."""
    parameters = error.ctx.command.params
    form = _form(name, parameters, model)
    has_model = any("-m" in parameter.opts for parameter in parameters)
    missing = getattr(error, "param", None)
    if model is not None and has_model and (missing is None or "-m" in missing.opts):
        return f"{name} takes the model as an option; write {form}"
    if missing is not None:
        what = f"{min(missing.opts, key=len)} {missing.name.upper()}" if missing.opts[0][0] == "-" else _label(missing)
        return f"{name} lacks {what}; write {form}"
    extra = re.search(r"\((.*)\)", error.message)
    return f"{name} does not take {extra[1] if extra else 'so many arguments'}; write {form}"


def _form(name: str, parameters: Sequence[Any], model: str | None) -> str:
    """How a command is written, with all that it needs."""
    words = [name]
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            words.append(_label(parameter) + ("..." if parameter.nargs == -1 else ""))
    for parameter in parameters:
        is_model = "-m" in parameter.opts
        if parameter.param_type_name == "option" and (parameter.required or (is_model and model is not None)):
            value = shlex.quote(model) if is_model and model is not None else parameter.name.upper()
            words += [min(parameter.opts, key=len), value]
    return " ".join(words)


def _models(words: Sequence[str]) -> Iterator[str]:
    """Those of the words that stand by their place and name a model."""
    for before, word in zip(("", *words), words, strict=False):
        if not before.startswith("-") and not word.startswith("-") and is_model(word):
            yield word


def is_model(word: str) -> bool:
    """Whether a word on the command line names a model that is here, or a baseline."""
    from udever.packaged import BUNDLED, PACKAGED

    named = word in BUNDLED or word in PACKAGED or word in _BASELINES
    spelled = word.startswith("st:") or word.endswith(".gguf")
    return named or spelled or any((Path(word) / file).is_file() for file in _MODEL_FILES)


def check_no_model(path: str | Path) -> None:
    """Raise RecipeError for a model that stands where a path is expected."""
    word = str(path)
    if is_model(word) and (not Path(word).exists() or (Path(word) / _MODEL_FILES[0]).is_file()):
        raise RecipeError(f"{word} is a model and stands where a path is expected; write -m {shlex.quote(word)}")
