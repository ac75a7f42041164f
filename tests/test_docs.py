"""What the documents say: commands parse, examples run, links lead somewhere."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import anatomad
from anatomad.cli.main import COMMANDS
from anatomad.convert.description import DataSet
from anatomad.convert.sets import KNOWN

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("csrc/*.md")])
_BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for found, text in _BLOCK.findall(document.read_text(encoding="utf-8")):
            if found == language:
                yield document.relative_to(ROOT).as_posix(), text


def commands(first_word: str) -> list[str]:
    lines = {line.strip() for _, text in blocks("bash") for line in text.splitlines()}
    return sorted(line for line in lines if re.match(rf"{first_word}(_\w+)?(\s|$)", line))


@pytest.mark.parametrize("line", commands("anatomad"))
def test_command_parses(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command, *arguments = shlex.split(line)
    name = command.removeprefix("anatomad").removeprefix("_") or "main"
    module = importlib.import_module(f"anatomad.cli.{name}")
    parsed: list[object] = []

    def stop_after_parsing(_: object, args: object) -> int:
        parsed.append(args)
        return 0

    if name != "main":
        monkeypatch.setattr(module, "run_command", stop_after_parsing)
    assert module.main(arguments) == 0
    assert len(parsed) == (name != "main")


def test_every_command_is_documented() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts.keys() - {"anatomad"} == COMMANDS.keys()
    assert all(command in readme for command in scripts)


@pytest.mark.parametrize("line", commands("make"))
def test_make_target_exists(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{shlex.split(line)[1]}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    ("document", "code"), [pytest.param(*b, id=f"{b[0]}-{n}") for n, b in enumerate(blocks("python"))]
)
def test_example_runs(document: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, document, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in _LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        linked = document.parent / target
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor[1:] in [heading.lower().replace(" ", "-") for heading in headings], anchor


@pytest.mark.parametrize("known", KNOWN.values(), ids=KNOWN)
def test_data_set_is_documented_as_it_is_described(known: DataSet) -> None:
    page = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    (row,) = (line for line in page.splitlines() if line.startswith(f"| [`{known.name}`]({known.homepage}) |"))
    told = (known.about, ", ".join(known.sequences), known.licence, known.citation)
    assert all(f"{text} |" in row for text in told)
    assert f"\n{known.name:10} {known.example}\n" in page
    examples = [line for line in commands("anatomad") if line.startswith(f"anatomad_convert {known.name} ")]
    assert bool(examples) != bool(known.refusal)


def test_versions_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {anatomad.__version__}\n" in citation
