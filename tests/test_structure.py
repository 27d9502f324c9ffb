"""The house: data flows one way, the library knows no Streamlit, the pages know no torch. Read from the imports."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "attention_core"
# each imports only from those before it (design.md, section 2); a folder counts as one
ORDER = ["errors", "attention", "tokens", "encodings", "transformer", "stored", "layer", "saving", "record"]
ORDER += ["seam", "maps", "checking", "recording", "tracing", "wiring", "worksheet", "filling", "lens"]
ORDER += ["language", "checkpoint", "memory", "loading", "hub", "unpacking", "models", "variants", "ordering", "needle"]
ORDER += ["heads", "views", "cache_layers", "cache_size"]
ORDER += ["known_models", "roofline", "sampling", "rows", "run", "ledger", "passes", "generation"]
ORDER += ["run_file", "work", "paging", "keeping", "lab"]
ORDER += ["scorer", "aim", "perturbed", "projecting", "attended", "attribution", "credibility", "direct"]
ORDER += ["jobs", "shelf", "inside", "relevances", "engine", "seq2seq"]
ORDER += ["export", "figures", "__main__"]
PAGES = [*sorted((ROOT / "pages").rglob("*.py")), ROOT / "app.py"]
FILES = sorted(p for p in CORE.rglob("*.py") if p != CORE / "__init__.py")


def imported(file: Path, package: tuple[str, ...] = ()) -> set[str]:
    """Every module that a file imports, anywhere in it, with relative names made absolute."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            # "from . import x" and "from attention_core import x" may mean the module x
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return names


def part(file: Path) -> str:
    """The file's place in ORDER: its own name, or its folder's."""
    return file.relative_to(CORE).with_suffix("").parts[0]


def core_parts(file: Path) -> set[str]:
    package = file.relative_to(ROOT).parent.parts
    modules = {name.split(".")[1] for name in imported(file, package) if name.startswith("attention_core.")}
    return {name for name in modules if (CORE / name).is_dir() or (CORE / f"{name}.py").exists()}


def test_the_reader_of_imports_sees_them(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text(
        "import a.b\nfrom . import c\nfrom .d import e\ndef f():\n    from ..g import h\n    import torch\n"
    )
    assert imported(file, ("core", "inner")) >= {"a.b", "core.inner.c", "core.inner.d", "core.g", "torch"}


def test_every_file_has_its_place():
    assert {part(file) for file in FILES} <= set(ORDER)
    assert {"attention", "record", "seam", "recording", "models"} <= {part(file) for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(CORE)))
def test_a_file_imports_only_earlier_ones(file):
    own = part(file)
    earlier = set(ORDER[: ORDER.index(own)]) | ({own} if (CORE / own).is_dir() else set())
    assert core_parts(file) <= earlier
    public = {"capture", "load_model", "LanguageModel", "Capture", "HeadlightError"}
    package = file.relative_to(ROOT).parent.parts
    assert not {f"attention_core.{name}" for name in public} & imported(file, package), (
        "import the module, not the list"
    )


@pytest.mark.parametrize("file", [*FILES, CORE / "__init__.py"], ids=lambda f: str(f.relative_to(CORE)))
def test_the_library_knows_no_pages(file):
    roots = {name.split(".")[0] for name in imported(file, file.relative_to(ROOT).parent.parts)}
    assert not roots & {"streamlit", "pages", "app", "tests", "training", "benchmarks"}


def test_the_mathematics_needs_torch_alone():
    assert {name.split(".")[0] for name in imported(CORE / "attention.py", ("attention_core",))} == {"torch"}


def test_the_public_list_and_nothing_else():
    tree = ast.parse((CORE / "__init__.py").read_text(encoding="utf-8"))
    assert all(isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr) for node in tree.body)
    names = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    listed = next(
        ast.literal_eval(n.value) for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__"
    )
    assert set(listed) == names and len(listed) == len(names)
    assert {"capture", "load_model", "Capture", "LanguageModel", "HeadlightError"} <= names


@pytest.mark.parametrize("file", PAGES, ids=lambda f: str(f.relative_to(ROOT)))
def test_pages_never_import_torch_or_transformers(file):
    roots = {name.split(".")[0] for name in imported(file, file.relative_to(ROOT).parent.parts)}
    assert not roots & {"torch", "transformers", "safetensors", "tokenizers"}
    assert not core_parts(file) & {"seam", "recording", "transformer"}, "pages speak to the engine and to the record"
