"""Run what the Dockerfile, the devcontainer and the action run, in fresh virtual environments.

    python -m tests.bench.containers FOLDER [--sees-torch]

No container engine is needed: a copy of the checkout (what git tracks) stands for what the image
copies, and each of the three gets a new environment below FOLDER, in which its own commands run.
The base image, Docker's entry point and GitHub's runner are not tried. pip uses the package index
that it is configured for.

--sees-torch   the environments see the packages of this one, so that the gigabytes of torch are not
               fetched again; the versions that the commands ask for must be satisfied by them
"""

from __future__ import annotations

import argparse
import json
import os
import re
import site
import subprocess
import sys
import time
import venv
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def of_image(text: str) -> list[str]:
    """The commands of a Dockerfile's RUN lines."""
    joined = text.replace("\\\n", " ")
    return [line.removeprefix("RUN ") for line in joined.splitlines() if line.startswith("RUN ")]


def of_container(text: str) -> list[str]:
    """The command that a devcontainer runs once it is created."""
    return [json.loads(text)["postCreateCommand"]]


def of_action(text: str) -> list[str]:
    """The shell steps of a composite action."""
    return [step["run"] for step in yaml.safe_load(text)["runs"]["steps"] if "run" in step]


def copied(folder: Path) -> Path:
    """The checkout, as `COPY . .` takes it: what git tracks."""
    home = folder / "checkout"
    home.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    subprocess.run(["tar", "-x", "-C", home], input=archive.stdout, check=True)
    return home


def fresh(folder: Path, *, sees_torch: bool) -> dict[str, str]:
    """A new virtual environment; returns the environment variables that select it."""
    venv.create(folder, with_pip=True, clear=True)
    if sees_torch:
        (own,) = (folder / "lib").glob("python*/site-packages")
        lines = [f"import site; site.addsitedir({path!r})" for path in site.getsitepackages()]
        (own / "zz_parent.pth").write_text("\n".join(lines) + "\n")
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "VIRTUAL_ENV": str(folder), "PATH": path}


def tried(name: str, commands: list[str], where: Path, environment: dict[str, str]) -> bool:
    """Run commands in turn; prints each with its time, and the last output of one that failed."""
    for command in commands:
        begun = time.monotonic()
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=where, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        shown = re.sub(r"\s+", " ", command).strip()
        print(
            f"{name}: {time.monotonic() - begun:.0f} s, code {done.returncode}: {shown}", flush=True
        )
        if done.returncode:
            print("\n".join(done.stdout.splitlines()[-15:]))
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sees-torch", action="store_true")
    options = parser.parse_args()
    folder = options.folder.absolute()
    home = copied(folder)
    works = True
    image = [*of_image((home / "Dockerfile").read_text("utf-8")), "qatspec --help"]
    action = (home / "action.yml").read_text("utf-8")
    container = of_container((home / ".devcontainer/devcontainer.json").read_text("utf-8"))
    for name, commands in (
        ("image", [*image, "qatspec plan specs/quickstart.yaml"]),
        ("devcontainer", [*container, "pytest -q tests/unit/cli/test_columns.py"]),
        ("action", of_action(action)),
    ):
        # the action's `validate` needs no torch, and must not find any
        environment = fresh(folder / name, sees_torch=options.sees_torch and name != "action")
        environment |= {"GITHUB_ACTION_PATH": str(home), "TORCH_INDEX": ""}
        environment |= {"SPECS": "specs/*.yaml", "SARIF": "qatspec.sarif"}
        environment |= {"OPTIONS": yaml.safe_load(action)["inputs"]["options"]["default"]}
        works &= tried(name, commands, home, environment)
    return 0 if works else 1


if __name__ == "__main__":
    sys.exit(main())
