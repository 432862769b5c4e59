"""Rules of the code that no single test file can see."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("compressors", "evaluators", "search")
SOURCES = [*sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py")), ROOT / "compareto.py"]
MAY_IMPORT = {"compressors": {"compressors"}, "evaluators": {"evaluators", "compressors"}, "search": set(PACKAGES), "compareto.py": set(PACKAGES)}
HEAVY = ("datasets", "onnx", "onnxruntime", "optuna", "pandas", "ray", "sklearn", "torch", "torchao", "transformers")


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported(path)} & {*PACKAGES, "experiments", "tests", "compareto"}
    assert ours <= MAY_IMPORT[package]


def test_only_search_imports_ray() -> None:
    users = {p.relative_to(ROOT).parts[0] for p in SOURCES if any(name.split(".")[0] == "ray" for name in imported(p))}
    assert users <= {"search"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_does_one_job(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400
    assert path.name not in {"utils.py", "helpers.py", "common.py", "misc.py"}
    assert ast.get_docstring(ast.parse(path.read_text())), "a module says what it is"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_from_a_file_is_executed(path: Path) -> None:
    """No pickle, no unsafe YAML, no full ``torch.load``, no ``eval`` of text."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
        assert called not in {"eval", "exec", "pickle.load", "pickle.loads", "yaml.unsafe_load", "yaml.full_load", "joblib.load"}
        if called == "torch.load":
            assert keywords.get("weights_only") == "True"
        if called == "yaml.load":
            assert keywords.get("Loader", "").endswith("_Loader"), "only loaders that derive from SafeLoader"
        if called.endswith("np.load"):
            assert keywords.get("allow_pickle", "False") == "False"
        assert keywords.get("trust_remote_code", "False") == "False"


@pytest.mark.parametrize("module", ["compareto", "search.cli"])
def test_importing_is_lean(module: str) -> None:
    code = f"import sys, {module}; print(','.join(sorted(sys.modules)))"
    loaded = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip().split(","))
    assert loaded.isdisjoint(HEAVY)


def test_help_needs_nothing_heavy() -> None:
    code = "import sys\nfrom search.cli import build_parser\nbuild_parser().format_help()\nprint(','.join(sorted(sys.modules)))"
    loaded = set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip().split(","))
    assert loaded.isdisjoint(HEAVY)


def test_every_exported_name_exists() -> None:
    import compareto

    assert sorted(compareto.__all__) == [
        "ComparetoError",
        "CompressionError",
        "DivergedError",
        "Experiment",
        "OutOfMemoryError",
        "Recipe",
        "Results",
        "StorageError",
        "Study",
        "TraceError",
        "TrialError",
        "UnexportableError",
        "UserError",
        "compress",
        "load",
        "load_artifact",
        "optimizer",
        "save",
        "trace",
    ]
    for name in compareto.__all__:
        assert getattr(compareto, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        compareto.no_such_name  # noqa: B018 - the access is the test
    assert dir(compareto) == sorted(compareto.__all__)


def test_every_experiment_validates() -> None:
    from search.experiment import Experiment

    paths = [*sorted((ROOT / "experiments").glob("*.yaml")), *sorted((ROOT / "search/quickstart").glob("*.yaml"))]
    assert [p.stem for p in paths] == [
        "gestures",
        "minilm_clinc150",
        "minilm_clinc150_domains",
        "minilm_early_exit",
        "minilm_every_technique",
        "mobilenetv2_cifar10",
        "resnet20_cifar10",
        "resnet20_early_exit",
        "stories260k",
        "stories260k_continuations",
        "vit_tiny_cifar10",
        "quickstart",
    ]
    for path in paths:
        experiment = Experiment.load(path)
        assert Experiment.from_plain(experiment.to_plain()) == experiment
