"""Digests of code, so that a stage reruns when its code changes."""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
#: The module that renders pages, and the suffixes of templates, styles and scripts.
PAGES, ASSETS = "pipeline.report.html", (".j2", ".css", ".js")
#: Modules that change messages and progress of a run, never its results.
COSMETIC = frozenset(
    {
        "pipeline.runtime.progress",
        "pipeline.runtime.stage",
        "pipeline.errors",
        "pipeline.runtime.copies",
    }
)


def code_digest(stage: str) -> str:
    """Return a digest of the code that a stage's result depends on.

    Snakemake notices a changed script, but not a changed module that the script imports. The
    digest covers the stage and all modules of the package that it imports, directly or not.
    It is computed from syntax trees without docstrings, so changed comments rerun nothing.
    For stages that render a page, templates, styles and scripts count too.

    Parameters
    ----------
    stage : str
        Name of the rule and of its file in ``pipeline/stages``.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    modules = sorted(_reachable(f"pipeline.stages.{stage}", set()) - COSMETIC)
    parts = [*map(_syntax, modules), *(_assets() if PAGES in modules else ())]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]


@cache
def _assets() -> tuple[str, ...]:
    files = sorted((PACKAGE / "report").iterdir())
    return tuple(path.read_text(encoding="utf-8") for path in files if path.suffix in ASSETS)


def _reachable(module: str, seen: set[str]) -> set[str]:
    if module not in seen:
        seen.add(module)
        for imported in _imports(module):
            _reachable(imported, seen)
    return seen


def _source(module: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def _tree(module: str) -> ast.Module:
    source = _source(module)
    if source is None:
        raise ValueError(f"there is no module {module}")
    return ast.parse(source.read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> tuple[str, ...]:
    names: list[str] = []
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(name for name in names if name.startswith("pipeline.") and _source(name))


@cache
def _syntax(module: str) -> str:
    tree = ast.parse(ast.unparse(_tree(module)))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return ast.dump(tree)
