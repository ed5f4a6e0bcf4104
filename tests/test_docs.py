"""What the pages promise a reader: every option of every command stands on a page."""

import re
from pathlib import Path

import pytest
import typer.main

from synthskin.cli import app

ROOT = Path(__file__).resolve().parent.parent
#: Where a command's options may stand; those that many commands share, in cli.md.
PAGES = {"render": "artefacts clinical scale", "presets": "presets", "validate": "dataset", "preview": "dataset",
         "sweep": "variation", "counterfactual": "variation", "followup": "variation", "questions": "variation",
         "export": "formats", "import": "formats", "merge": "scale", "mesh": "mesh", "classifier": "classifier",
         "diffusion": "diffusion gates", "gan": "gan", "segmenter": "segmenter", "audit": "audit", "study": "study gan",
         "tone": "tone", "compare": "compare", "doctor": "cli"}


def commands(command, path=()):
    """(names, command) of every command and subcommand."""
    if hasattr(command, "commands"):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))
    else:
        yield path, command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_stands_on_a_page(path):
    pages = [ROOT / "docs/cli.md", *(ROOT / f"docs/{name}.md" for name in PAGES[path[0]].split())]
    told = set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]*", "".join(page.read_text() for page in pages)))
    for own in COMMANDS[path].params:
        names = {name for name in (*own.opts, *own.secondary_opts) if name.startswith("--")}
        assert not names or names & told, f"{' '.join(path)} {names} is on none of {[page.name for page in pages]}"


def _pages():
    own = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "gallery/README.md"]
    return [*own, *sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "examples").glob("*.py"))]


def test_no_page_or_benchmark_names_a_folder_that_a_reader_has_not():
    for page in _pages():
        assert "shared/data" not in page.read_text(), page


def _anchors(page):
    """As GitHub makes them of headings."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def test_links_between_pages_lead_somewhere():
    for page in (path for path in _pages() if path.suffix == ".md"):
        for target, anchor in re.findall(r"\]\(([^)#\s:]+)(?:#([^)]*))?\)", page.read_text()):
            place = (page.parent / target).resolve()
            assert place.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in _anchors(place), f"{page.name}: {target}#{anchor}"
