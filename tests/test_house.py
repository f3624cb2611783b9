"""What a machine can check of the house: the README's commands exist, every package says what it is for, no leaks."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gelert.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_every_command_the_readme_shows_exists() -> None:
    shown = set(re.findall(r"gelert (\w+)", (ROOT / "README.md").read_text().replace("gelert import", "")))
    assert shown - {"import"} <= set(COMMANDS), shown
    assert len(shown) >= 8


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_and_an_example_or_a_subcommand(name: str) -> None:
    words = [sys.executable, "-m", "gelert.cli.main", name, "--help"]
    out = subprocess.run(words, capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    assert "Examples:" in out.stdout or "Commands:" in out.stdout


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['gelert', '--help']\n"
        "from gelert.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'pydantic', 'httpx', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stderr.strip() == "[]"


def test_every_module_opens_with_what_it_is() -> None:
    missing = [str(p) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert missing == []
    assert len(SOURCES) > 60


def test_only_the_command_line_prints() -> None:
    printing = [
        str(path)
        for path in SOURCES
        if "cli" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


@pytest.mark.real_model
def test_the_readmes_python_runs_on_a_recorded_log(tmp_path: Path, real_model: str) -> None:
    del real_model
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "run.jsonl").write_bytes((ROOT / "examples/logs/claude-obeys-issue-injection.jsonl").read_bytes())
    assert blocks
    for block in blocks:
        out = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert out.returncode == 0, out.stderr


@pytest.mark.parametrize("path", [p for p in SOURCES if ">>> " in p.read_text()], ids=lambda p: p.stem)
def test_the_examples_in_docstrings_are_true(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0
    assert found.failed == 0
