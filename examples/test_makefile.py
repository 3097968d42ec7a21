"""What `make` would run exists, reads what an earlier command made, and makes what the pages promise."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tyro

from human_study import cli as human_study
from shapes_cp.__main__ import Arguments
from updn_captioning import cli as captioning
from updn_captioning.data.prepare import PrepareConfig as CaptioningPrepareConfig
from updn_captioning.studies.study import StudyConfig as CaptioningStudyConfig
from updn_common.command import parse_command_line
from updn_vqa import cli as vqa
from updn_vqa.data.prepare import PrepareConfig
from updn_vqa.studies.compare import CompareConfig
from updn_vqa.studies.definitions import STUDIES
from updn_vqa.studies.study import StudyConfig

ROOT = Path(__file__).parents[1]
PIPELINES = {"updn-vqa": vqa, "updn-captioning": captioning}


@pytest.fixture
def commands(tmp_path: Path) -> Callable[..., list[list[str]]]:
    """What ``make`` would run in a clean clone, as words; nothing is run."""
    for path in (ROOT / "constraints.txt", ROOT / "pyproject.toml", *ROOT.glob("examples/*/pyproject.toml")):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()

    def make(*targets: str) -> list[list[str]]:
        command = ["make", "--dry-run", "--no-print-directory", f"--makefile={ROOT / 'Makefile'}", *targets]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines()]

    return make


def test_targets_that_are_told_of_exist(commands: Callable[..., list[list[str]]]) -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run", *(ROOT / "docs").glob("*.rst")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    told = set(re.findall(r"(?:`|^ *\$? *)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert told >= {"demo", "test", "lint", "docs", "results", "bench"}
    for target in told:
        assert all(program != "make:" for program, *_ in commands(target))  # "make: Nothing to be done"


@pytest.mark.parametrize("target", ["demo", "results", "selection"])
def test_each_command_finds_what_it_reads(commands: Callable[..., list[list[str]]], target: str) -> None:
    made: set[Path] = set()
    compared: list[str] = []
    for path, *arguments in commands(target):
        program = Path(path).name
        if program == "shapes-cp":
            made.add(tyro.cli(Arguments, args=arguments).out)
        elif program in PIPELINES:
            config = parse_command_line(program, None, PIPELINES[program].COMMANDS, arguments)
            if isinstance(config, CompareConfig):
                reads = {run.parents[2] for run in config.runs}
                compared += [run.name for run in config.runs if "table1" in run.parts]
            elif isinstance(config, PrepareConfig):
                reads = {config.data}
            elif isinstance(config, CaptioningPrepareConfig):
                reads = {config.data, *config.features}
            elif isinstance(config, StudyConfig):
                reads = {*config.data, config.images} - {None}
            else:
                assert isinstance(config, CaptioningStudyConfig)
                reads = {*config.data}
            assert reads <= made
            made.add(config.out)
    rows = {arm.directory_name for arm in STUDIES["table1"].arms}
    assert sorted(compared) == (sorted(rows) if target == "results" else [])


def test_the_demo_writes_the_page_that_the_readme_promises(commands: Callable[..., list[list[str]]]) -> None:
    *_, (_, *arguments) = commands("demo")
    assert arguments[:2] == ["study", "demo"]
    out = parse_command_line("updn-vqa", None, vqa.COMMANDS, arguments).out
    assert f"writes {out}/index.html" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_human_study_of_the_demo_finds_what_it_reads(commands: Callable[..., list[list[str]]]) -> None:
    *earlier, build, simulate, analyse = commands("study-demo")
    demo = next(words for words in earlier if words[1:3] == ["study", "demo"])
    made = {run.directory for run in STUDIES["demo"].runs(Path(demo[-1]), [Path("cue0")])}
    built, simulated, analysed = (
        parse_command_line("human-study", None, human_study.COMMANDS, words[1:]) for words in (build, simulate, analyse)
    )
    assert {*built.runs} <= made
    assert (simulated.study, analysed.study, analysed.answers) == (built.out, built.out, simulated.out)


def test_every_committed_result_can_be_made_again(commands: Callable[..., list[list[str]]]) -> None:
    copies = [words for words in commands("results", "selection") if words[0] == "cp"]
    made = {Path(target, Path(source).name) for _, *sources, target in copies for source in sources}
    digits = Path("examples/decoy_digits/results")
    for of_protocol in ("rieger", "ross"):  # in a loop of the shell
        for name in (of_protocol, f"{of_protocol}-from-base"):
            made |= {digits / f"{name}{end}" for end in (".jsonl", ".md", ".png", "-selection.jsonl")}
    made |= {digits / "steps.jsonl", digits / "cancellation.png"}
    study = {Path(words[words.index("--out") + 1]) for words in commands("results-study") if "--out" in words}
    made |= study | {path.with_suffix(".md") for path in study if path.stem == "coverage"}
    (loop,) = [words for words in commands("results-digits") if words[0] == "for"]
    assert {"rieger", "ross;"} < set(loop)
    for results in ROOT.glob("examples/*/results"):
        assert {path.relative_to(ROOT) for path in results.rglob("*") if path.is_file()} <= made
