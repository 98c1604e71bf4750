"""The shape of the house: who may import whom, what is installed under which name, and how soon the command line answers."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

WINGS = ("classifiers", "integration", "validation")
"""Folders at the top of the repository that are installed inside ``srh_clinic``."""

FLOORS = {
    0: (
        "errors",
        "progress",
        "files",
        "tables",
        "escaping",
        "diagnosis",
        "estimates",
        "intensity",
        "display",
        "concurrency",
        "inference",
        "engine",
        "notebook",
        "slide",
        "tiling",
        "registration",
        "resampling",
        "regions",
    ),
    1: ("rscd", "simulation", "bundles", "metrics", "tissue"),
    2: ("integration", "classifiers", "restorers", "guards", "trust", "training"),
    3: ("case", "casepage", "cohort", "judging", "transforms", "health"),
    4: ("validation", "pacs"),
    5: ("cli",),
}

VALIDATION_FLOORS = {
    0: ("statistics", "reporting"),
    1: ("bench",),
    2: ("shift", "study"),
    3: ("benchmarks",),
}
"""Inside of validation; on one floor nothing imports the other, and the package's face imports nothing until it is asked."""

FLOOR_OF = {part: floor for floor, parts in FLOORS.items() for part in parts}

SAME_FLOOR = {
    ("training", "classifiers"),
    ("training", "integration"),
    ("training", "restorers"),
    ("casepage", "case"),
    ("cohort", "case"),
    ("cohort", "casepage"),
    ("judging", "case"),
    ("transforms", "case"),
}


@cache
def source_files() -> list[tuple[str, Path]]:
    """Every module of the product by its installed name."""
    found = []
    for folder in ("srh_clinic", *WINGS):
        prefix = "srh_clinic" if folder == "srh_clinic" else f"srh_clinic.{folder}"
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found.append((".".join((prefix, *(part for part in parts if part != "__init__"))), path))
    return found


@cache
def parsed(path: Path) -> ast.Module:
    """A file's tree, which several tests look at."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def statements(path: Path) -> list[ast.stmt]:
    """Every statement of a file, those inside of others too: an expression imports nothing and defines no name."""
    found: list[ast.stmt] = []
    bodies: list[ast.AST] = [parsed(path)]
    while bodies:
        inner = [
            node
            for node in ast.iter_child_nodes(bodies.pop())
            if isinstance(node, ast.stmt | ast.excepthandler | ast.match_case)
        ]
        found += [node for node in inner if isinstance(node, ast.stmt)]
        bodies += inner
    return found


def part_of(module: str) -> str | None:
    """``srh_clinic.rscd.sampler`` is of the part ``rscd``; the package itself is of none."""
    names = module.split(".")
    return names[1] if len(names) > 1 else None


@cache
def imported_modules(module: str, path: Path) -> list[str]:
    """What a module imports, anywhere in its text, also inside functions and for type checking."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in statements(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            packages = ("srh_clinic", "srh_clinic.validation")
            names = [f"{origin}.{alias.name}" for alias in node.names] if origin in packages else [origin]
        else:
            continue
        found += names
    return found


def imported_parts(module: str, path: Path) -> Iterator[str]:
    """The parts of srh_clinic that a module imports."""
    for name in imported_modules(module, path):
        part = part_of(name) if name.split(".")[0] == "srh_clinic" else None
        if part is not None and not part.startswith("__"):
            yield part


def test_every_module_stands_on_a_floor() -> None:
    parts = {part_of(module) for module, _ in source_files()} - {None}
    assert parts <= set(FLOOR_OF)


def test_imports_run_down() -> None:
    wrong = []
    for module, path in source_files():
        here = part_of(module)
        if here is None:
            continue
        for there in imported_parts(module, path):
            if there == here or FLOOR_OF[there] < FLOOR_OF[here] or (here, there) in SAME_FLOOR:
                continue
            ground = FLOORS[0]
            if here in ground and there in ground and ground.index(there) < ground.index(here):
                continue
            wrong.append(f"{module} (floor {FLOOR_OF[here]}) imports {there} (floor {FLOOR_OF[there]})")
    assert wrong == []


def test_imports_run_down_inside_validation() -> None:
    prefix = "srh_clinic.validation."
    floor_of = {part: floor for floor, parts in VALIDATION_FLOORS.items() for part in parts}
    wrong = []
    for module, path in source_files():
        if not module.startswith(prefix):
            continue
        here = module.removeprefix(prefix).split(".")[0]
        for name in imported_modules(module, path):
            there = f"{name}.".removeprefix(prefix).split(".")[0] if f"{name}.".startswith(prefix) else here
            if there != here and floor_of.get(there, len(VALIDATION_FLOORS)) >= floor_of[here]:
                wrong.append(f"{module} (floor {floor_of[here]}) imports {name}")
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = dict(source_files())
    graph = {module: set(imported_modules(module, path)) & set(modules) - {module} for module, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_files_and_functions_can_be_read_in_one_go() -> None:
    long = []
    for module, path in source_files():
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 600:
            long.append(f"{module}: {lines} lines")
        for node in statements(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if body and (lines := (body[-1].end_lineno or 0) - body[0].lineno + 1) > 60:
                    long.append(f"{module}.{node.name}: a body of {lines} lines")
    assert long == []


def test_dicom_is_known_to_integration_and_its_network_to_pacs_alone() -> None:
    dicom = {"pydicom", "highdicom", "pynetdicom", "dicomweb_client"}
    wrong = []
    for module, path in source_files():
        for node in statements(path):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if dicom & {name.split(".")[0] for name in names} and part_of(module) not in ("integration", "validation", "pacs"):
                wrong.append(module)
    assert wrong == []


def test_package_list_equals_the_folders() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {module for module, path in source_files() if path.name == "__init__.py"}
    assert set(setuptools["packages"]) == folders
    assert {name: setuptools["package-dir"][f"srh_clinic.{name}"] for name in WINGS} == {name: name for name in WINGS}


def test_every_public_name_is_documented() -> None:
    missing = []
    for module, path in source_files():
        tree = parsed(path)
        if tree.body and ast.get_docstring(tree) is None:
            missing.append(module)
        missing += [
            f"{module}.{node.name}"
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node) is None
        ]
    assert missing == []


def test_a_script_beside_its_own_validation_and_classifiers_uses_srh_clinic_which_loads_no_monai(tmp_path: Path) -> None:
    (tmp_path / "validation.py").write_text("OWN = 'validation of the script'\n")
    (tmp_path / "classifiers").mkdir()
    (tmp_path / "classifiers" / "__init__.py").write_text("OWN = 'classifiers of the script'\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "import numpy as np\n"
        "import classifiers, validation\n"
        "import srh_clinic.classifiers, srh_clinic.integration, srh_clinic.restorers.diffusion, srh_clinic.validation\n"
        "assert 'timm' in sys.modules and 'monai' not in sys.modules\n"
        "from srh_clinic.slide import ArraySlide\n"
        "assert srh_clinic.classifiers is not classifiers and not hasattr(srh_clinic.classifiers, 'OWN')\n"
        "assert srh_clinic.validation is not validation and not hasattr(srh_clinic.validation, 'OWN')\n"
        "print(classifiers.OWN, validation.OWN, ArraySlide(np.zeros((2, 3, 4), np.uint16), 0.47).shape, sep='; ')\n"
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "classifiers of the script; validation of the script; (3, 4)"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        *([*name.split(), "--help"] for name in ("", "diagnose", "bundle", "benchmark", "study", "study export", "cohort")),
    ],
)
def test_help_answers_without_torch(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from srh_clinic.cli.app import main\n"
        f"sys.argv = ['srh-clinic', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "slow = {'torch', 'monai', 'timm', 'scipy', 'skimage', 'matplotlib', 'pydicom', 'highdicom'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout: there are no tracked files to weigh")
def test_the_tracked_files_are_light_enough_to_copy_about() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    sizes = {name: (ROOT / name).lstat().st_size for name in listed if name and (ROOT / name).exists()}
    heaviest = sorted(sizes, key=lambda name: -sizes[name])[:5]
    assert sum(sizes.values()) <= 45e6, f"{sum(sizes.values()) / 1e6:.1f} MB; heaviest: {', '.join(heaviest)}"


def test_ready_predictions_are_validated_without_networks_and_dicom(tmp_path: Path) -> None:
    names = ("tumor", "normal", "nondiagnostic")
    columns = ["case", "patient", "truth", *(f"{when}_{name}" for when in ("before", "after") for name in names)]
    sure = {name: [0.8 if name == other else 0.1 for other in names] for name in names}
    rows = [
        [f"case {n}", f"patient {n // 2}", names[n // 2 % 3], *sure[names[n % 3]], *sure[names[n // 2 % 3]]] for n in range(60)
    ]
    manifest, policy = tmp_path / "manifest.csv", tmp_path / "report" / "policy.json"
    manifest.write_text("".join(",".join(map(str, row)) + "\n" for row in [columns, *rows]))
    code = (
        "import sys\n"
        "from srh_clinic.cli.app import main\n"
        f"sys.argv = ['srh-clinic', 'validate', {str(manifest)!r}, '--out', {str(tmp_path / 'report')!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "from srh_clinic.trust import load_policy\n"
        f"load_policy({str(policy)!r})\n"
        "slow = {'torch', 'monai', 'timm', 'torchvision', 'pydicom', 'highdicom', 'srh_clinic.simulation'}\n"
        "slow &= set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


FACES = ("srh_clinic", "srh_clinic.case", "srh_clinic.casepage", "srh_clinic.validation")
"""Packages that load what they hand on when it is asked for."""


@pytest.mark.parametrize("face", FACES)
def test_a_face_lists_its_names_without_loading_what_is_behind(face: str) -> None:
    code = (
        "import importlib, sys\n"
        f"face = importlib.import_module({face!r})\n"
        "assert dir(face) == sorted(face.__all__) and face.__all__\n"
        "slow = {'torch', 'monai', 'scipy', 'skimage', 'matplotlib', 'pydicom', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("face", FACES)
def test_a_face_hands_on_every_name_that_it_lists(face: str) -> None:
    package = import_module(face)
    for name in dir(package):
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing
