"""The pages for people: links, files, commands and addresses exist, both READMEs say the same, lists are complete."""

import dataclasses
import json
import re
import subprocess
from functools import cache

import pytest

import app  # noqa: F401 - importing it fills ENDPOINTS
from chalicelib.edge.http import ENDPOINTS
from chalicelib.imports.model import FILE_PROBLEMS, LINE_REASONS
from chalicelib.inventory.model import Stock
from chalicelib.payments.adapters import stripe
from tests.guards.source import ROOT

PLACEHOLDER = re.compile(r"\$\w+|{\w+}|<\w+>")


@cache
def tracked():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return sorted({ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()})


PAGES = [path for path in tracked() if path.suffix == ".md"]
DECISIONS = ROOT / "docs" / "decisions"


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def text_of(name):
    return (ROOT / name).read_text("utf-8")


def shell(text):
    """The commands of the shell blocks, with lines that were broken by a backslash joined."""
    return "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")


def prose(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def slugs(text):
    """The anchors of a page's headings, as they are made on the web."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", prose(page.read_text("utf-8"))):
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), target
        assert not anchor or anchor in slugs(found.read_text("utf-8")), target


FILE = re.compile(
    r"[\w.<>*-]+(?:/[\w.<>*-]+)*\.(?:py|yaml|toml|txt)|(?:infra|docs|tests|chalicelib|\.chalice)/[\w./-]*"
)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_a_page_names_is_there(page):
    """Named from the page's folder, from the root, from the product's package, or (a bare name) anywhere in it."""
    gone = []
    for named in re.findall(r"`([^`\n]+)`", prose(page.read_text("utf-8"))):
        if FILE.fullmatch(named):
            pattern = re.sub(r"<[^>]+>", "*", named).rstrip("/")
            places = [(page.parent, pattern), (ROOT, pattern), (ROOT, f"chalicelib/{pattern}")]
            places += [(ROOT, f"chalicelib/**/{pattern}")] if "/" not in named else []
            if not any(next(folder.glob(place), None) for folder, place in places):
                gone.append(named)
    assert gone == []


def targets():
    return set(re.findall(r"^([a-z][a-z-]*):.*## ", text_of("Makefile"), re.M))


def made_in(text):
    code = shell(text) + "\n" + "\n".join(re.findall(r"`([^`\n]+)`", prose(text)))
    return set(re.findall(r"\bmake ([a-z][a-z-]*)", code))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_make_command_on_a_page_exists(page):
    assert made_in(page.read_text("utf-8")) - targets() == set()


def test_every_make_command_is_explained_to_newcomers_or_operators():
    assert targets() - made_in(text_of("README.md")) - made_in(text_of("docs/operator-guide.md")) == set()


def addresses():
    return {(one.method, PLACEHOLDER.sub("*", one.path)) for one in ENDPOINTS}


def exists(method, path):
    wanted = PLACEHOLDER.sub("*", path)
    return any(
        method == known and re.fullmatch(re.escape(pattern).replace(r"\*", r"[^/]+"), wanted)
        for known, pattern in addresses()
    )


def curls(text):
    """(method, path) of every request to the API in the shell blocks of a page."""
    for command in re.findall(r"curl (?:[^\n']|'[^']*')+", shell(text)):
        path = re.search(r'\$BASE(/[^\s"?]+)', command)
        if path:
            method = re.search(r"-X (\w+)", command)
            yield (method[1] if method else "POST" if " -d " in command else "GET"), path[1]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_request_on_a_page_is_one_the_api_answers(page):
    text = page.read_text("utf-8")
    named = re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^\s`?]+)", text)
    if page.parent.name == "providers":
        named = []  # these pages also name calls of the providers and of the simulator
    assert [one for one in [*curls(text), *named] if not exists(*one)] == []


def test_the_walks_through_the_api_were_found():
    """The test above would pass on pages it could not read."""
    assert len(list(curls(text_of("README.md")))) == 4
    assert len(set(curls(text_of("docs/api.md")))) >= 12


def test_every_call_of_the_api_is_in_its_guide():
    text = text_of("docs/api.md")
    shown = [*curls(text), *re.findall(r"`(GET|POST|PATCH) (/[^\s`?]+)", text)]
    shown += [("POST", path) for path in re.findall(r"`(/v1/notices/[^`]+)`", text)]
    patterns = [(method, re.escape(PLACEHOLDER.sub("*", path)).replace(r"\*", r"[^/]+")) for method, path in shown]
    missing = [
        (one.method, one.path)
        for one in ENDPOINTS
        if not one.is_page
        and not any(
            one.method == method and re.fullmatch(path, PLACEHOLDER.sub("*", one.path)) for method, path in patterns
        )
    ]
    assert missing == []


def test_both_readmes_have_the_same_headings_commands_and_links():
    english, chinese = text_of("README.md"), text_of("README.zh-CN.md")

    def shape(text):
        commands = [line for line in shell(text).splitlines() if line.strip() and not line.startswith("#")]
        links = sorted(re.findall(r"\]\(([^)]+)\)", text))
        marks = re.findall(r"^(#+) ", prose(text), re.M)
        rows = len(re.findall(r"^\|", text, re.M))
        return marks, commands, [one for one in links if not one.startswith("README")], rows

    assert shape(english) == shape(chinese)


def test_the_index_of_decisions_names_each_by_its_title():
    listed = dict(
        re.findall(r"^\| \[\d{4}\]\(([^)]+)\) \| (.+) \|$", (DECISIONS / "README.md").read_text("utf-8"), re.M)
    )
    titles = {
        path.name: path.read_text("utf-8").splitlines()[0].removeprefix(f"# {path.name[:4]} ")
        for path in DECISIONS.glob("[0-9]*.md")
    }
    assert listed == titles


def test_a_decision_that_the_code_refers_to_exists():
    numbers = {path.name[:4] for path in DECISIONS.glob("[0-9]*.md")}
    for path in tracked():
        if path.suffix in (".py", ".yaml", ".md"):
            referred = set(re.findall(r"\bdecision (\d{4})\b|decisions/(\d{4})", path.read_text("utf-8")))
            assert {one or other for one, other in referred} <= numbers, name_of(path)


def test_the_architecture_names_every_function():
    table = re.search(r"^\| Function \|.*\n\|[-|]+\n((?:\|.*\n)+)", text_of("ARCHITECTURE.md"), re.M)
    named = [name for row in table[1].splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert sorted(named) == sorted(json.loads(text_of(".chalice/config.json"))["lambda_functions"])


def test_the_decision_on_dependencies_names_every_package_we_pin():
    text = text_of("docs/decisions/0010-dependencies.md")
    groups = {
        "In the functions": ["requirements.txt"],
        "On the machine": ["requirements-dev.txt"],
        "In virtual environments": ["requirements-local.txt", "infra/requirements-checkov.txt"],
    }
    for group, files in groups.items():
        table = text[text.index(f"**{group}") :].split("\n**")[0]
        cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
        named = {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}
        text_of_all = "\n".join(text_of(file) for file in files)
        assert sorted(named) == sorted(re.findall(r"^([A-Za-z0-9-]+)(?:\[.*\])?==", text_of_all, re.M)), group


def first_column(text, heading):
    """The code words in the first column of the table that begins with this heading."""
    table = re.search(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    return {re.findall(r"`([^`]+)`", row)[0] for row in table[1].splitlines()}


def test_the_operator_guide_names_every_reason_a_line_or_file_is_refused_for():
    guide = text_of("docs/operator-guide.md")
    lines = {reason.partition(":")[0] for reason in first_column(guide, "Reason")}
    assert lines == set(LINE_REASONS)
    assert first_column(guide, "Problem") == set(FILE_PROBLEMS)


def test_the_operator_guide_says_what_to_do_about_every_alarm():
    written = set(re.findall(r"^  (\w+):\n    Type: AWS::CloudWatch::Alarm", text_of("infra/resources.yaml"), re.M))
    made = set(re.findall(r'f"{logical}(\w+)"\] = _alarm', text_of("infra/build.py"))) | {"Errors", "Throttles"}
    made |= {"DeadLetters"}
    assert written and first_column(text_of("docs/operator-guide.md"), r"Alarm \(as in the stack\)") == written | {
        f"…{kind}" for kind in made
    }


def test_the_operator_guide_names_what_is_to_be_entered_at_stripe():
    guide = text_of("docs/operator-guide.md")
    assert f"`{stripe.API_VERSION}`" in guide
    assert {name for name in re.findall(r"`(refund\.\w+)`", guide)} <= set(stripe._REFUND_EVENTS)


def test_the_glossary_has_a_word_for_every_stock_figure_in_both_languages():
    glossary = text_of("docs/glossary.md")
    for figure in dataclasses.fields(Stock):
        assert re.search(rf"^\| (?:\w+, )?{figure.name}(?:, \w+)? \| [\u4e00-\u9fff]+ \| .+ \|$", glossary, re.M), (
            figure.name
        )


MACHINE = re.compile(r"(?:^|[\s\"'`(=:,])/(?:work|root|home|Users)\b|\.\./shared", re.M)


def test_no_file_speaks_of_the_machine_it_was_written_on():
    found = []
    for path in tracked():
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}: {hit.strip()}" for hit in MACHINE.findall(text)]
    assert found == []
