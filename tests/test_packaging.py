"""What a user installs."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top_level = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert top_level == {"compareto.py", "compressors", "evaluators", "search"}
    assert "search/quickstart/quickstart.yaml" in names
    assert "search/quickstart/models.py" in names
    assert "evaluators/devices/profiles/raspberry-pi-5.yaml" in names
    shipped = {Path(name).name for name in names if name.startswith("evaluators/devices/profiles/")}
    assert shipped == {path.name for path in (ROOT / "evaluators/devices/profiles").glob("*.yaml")}


def test_constraints_pin_every_direct_dependency() -> None:
    import re
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in ("dev", "litert", "executorch"):
        wanted += project["optional-dependencies"][extra]
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    names = {re.split(r"[\[<>=]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    assert names - pinned == set()
