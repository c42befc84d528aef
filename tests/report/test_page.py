import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Objective
from mixture_assets.report.content import Content, content, verdicts
from mixture_assets.report.page import ReportPaths, markdown_text, write_report
from mixture_assets.report.pull import pull
from mixture_assets.report.tables import number, percent, signed
from mixture_assets.store.database import DATABASE_NAME
from mixture_assets.store.query import query
from tests.report.conftest import BUDGET, DOMAINS, Example

HOSTILE = "<script>alert('x')</script>|$y$"


class Page(HTMLParser):
    """Tables by the section they are in, the text, and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._section, self._is_cell = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = str(dict(attrs)["id"])
        elif tag == "table":
            self.tables.setdefault(self._section, []).append([])
        elif tag == "tr":
            self.tables[self._section][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self._section][-1][-1].append("")
            self._is_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._is_cell = self._is_cell and tag not in ("td", "th")

    def handle_data(self, text: str) -> None:
        if self._is_cell:
            self.tables[self._section][-1][-1][-1] += text


def write(example: Example, folder: Path) -> ReportPaths:
    return write_report(
        example.store,
        proposal_id=example.proposal_id,
        objective=example.objective,
        folder=folder,
    )


def contents(example: Example) -> Content:
    return content(pull(example.store, example.proposal_id, example.objective), [])


@pytest.fixture(scope="module")
def paths(example: Example, tmp_path_factory: pytest.TempPathFactory) -> ReportPaths:
    return write(example, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(paths: ReportPaths) -> Page:
    return Page(paths.html.read_text())


# --- numbers ----------------------------------------------------------------------------------


def test_weight_table_is_the_database(example: Example, page: Page) -> None:
    rows = query(
        example.store,
        "SELECT domain, weight, weight_low, weight_high, natural_weight, uniform_weight, epochs "
        "FROM proposal_weight ORDER BY weight DESC",
    ).rows
    shown = page.tables["weights"][0][1:]
    assert [row[0] for row in shown] == [row[0] for row in rows]
    for cells, (_, weight, low, high, natural, uniform, epochs) in zip(shown, rows, strict=True):
        assert cells[1] == f"{weight:.1%}"
        assert cells[2] == f"{low:.1%} to {high:.1%}"
        assert cells[3:5] == [f"{natural:.1%}", f"{uniform:.1%}"]
        assert float(cells[5]) == pytest.approx(epochs, rel=0.01)


def test_evaluation_tables_are_the_database(example: Example, page: Page) -> None:
    nats, bits, perplexity = page.tables["evaluation"]
    assert nats[0][1:] == [
        f"{name}, seed\u00a0{seed}"
        for name in ("natural", "uniform", "proposal")
        for seed in (0, 1)
    ]
    assert nats[1][0] == "mean perplexity"
    for column, run_id in enumerate(example.full.values(), start=1):
        rows = query(
            example.store,
            "SELECT domain, loss_nats, loss_se_nats, bits_per_byte, bits_per_byte_se, perplexity "
            f"FROM evaluation WHERE is_final AND run_id = '{run_id}' ORDER BY domain",
        ).rows
        objective = example.objective.value({domain: loss for domain, loss, *_ in rows})
        assert nats[1][column] == f"{objective:.4g}"
        for k, (domain, loss, loss_se, bpb, bpb_se, ppl) in enumerate(rows):
            assert nats[2 + k][0] == bits[1 + k][0] == perplexity[1 + k][0] == domain
            assert nats[2 + k][column] == f"{loss:.3f} ± {loss_se:.3f}"
            assert bits[1 + k][column] == f"{bpb:.3f} ± {bpb_se:.3f}"
            assert float(perplexity[1 + k][column]) == pytest.approx(ppl, rel=1e-3)


def test_fit_table_is_the_database(example: Example, page: Page) -> None:
    shown = {(row[0], row[1]): row[2:] for row in page.tables["fits"][0][1:]}
    assert len(shown) == 2 * len(DOMAINS)
    for fit in example.proposal.fits:
        a, b, c, freedom, _, optimum, _, remarks = shown[fit.domain, fit.scale]
        assert [float(x) for x in (a, b, c)] == pytest.approx([fit.a, fit.b, fit.c], rel=1e-3)
        assert int(freedom) == fit.degrees_of_freedom
        assert float(optimum) == pytest.approx(fit.optimum, rel=0.01)
        assert ("at floor" in remarks) == fit.is_at_floor


def test_ledger_and_headline_agree_on_the_cost_of_the_search(example: Example, page: Page) -> None:
    flops = dict(
        query(
            example.store,
            f"SELECT role, sum(flops) FROM cost WHERE decision_id = '{example.proposal_id}' "
            "GROUP BY role",
        ).rows
    )
    share = flops["proxy"] / (flops["full"] / 6)
    ledger = {row[0]: row[1:] for row in page.tables["costs"][0][1:]}
    assert ledger["proxy runs"][0] == str(len(example.proxy_ids))
    assert ledger["proxy runs"][-1] == f"{share:.2f}"
    assert ledger["full runs"][-1] == "6.00"
    assert f"{share:.2f} times one full run" in contents(example).verdicts[-1].text


def test_data_table_is_the_database(page: Page) -> None:
    shown = {row[0]: row[1:] for row in page.tables["data"][0][1:]}
    assert {domain: cells[2] for domain, cells in shown.items()} == {
        domain: f"{tokens:,}" for domain, tokens in DOMAINS.items()
    }
    assert {cells[4] for cells in shown.values()} == {"12,000"}


def test_every_run_is_named(example: Example, paths: ReportPaths) -> None:
    for text in (paths.html.read_text(), paths.markdown.read_text()):
        assert example.proposal_id in text
        for run_id in (*example.proxy_ids, *example.full.values()):
            assert run_id in text


# --- verdicts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "lead", "says"),
    [
        ({"better": 0.2}, "Better than uniform", "fewer tokens."),
        ({"better": -0.2}, "Worse than uniform", "does not reach the final value of uniform"),
        ({"better": 0.0}, "Within noise of uniform", "90 % interval"),
        ({"seeds": (0,)}, "Against uniform, one seed cannot tell", "1 seed each)"),
    ],
)
def test_the_verdict_says_what_the_seeds_allow(
    make_example: Callable[..., Example], changes: dict[str, object], lead: str, says: str
) -> None:
    example = make_example(mixtures=("uniform", "proposal"), **changes)
    found = verdicts(pull(example.store, example.proposal_id, example.objective))
    assert len(found) == 1
    assert found[0].lead.startswith(lead)
    assert says in found[0].text


def test_a_speed_up_within_noise_is_called_so(make_example: Callable[..., Example]) -> None:
    example = make_example(mixtures=("uniform", "proposal"), better=0.005)
    data = pull(example.store, example.proposal_id, example.objective)
    assert data.comparisons[0].verdict == "within noise"
    assert data.comparisons[0].speed_up is not None
    assert verdicts(data)[0].text.endswith("fewer tokens, which is within noise, too.")


def test_without_full_runs_the_report_says_untested(
    make_example: Callable[..., Example], tmp_path: Path
) -> None:
    example = make_example(mixtures=())
    text = write(example, tmp_path / "out").markdown.read_text()
    assert "**Untested**" in text
    assert "No full run of these weights is done yet" in text
    assert "loss_curves" not in text


def test_remarks_and_extrapolation_are_explained(make_example: Callable[..., Example]) -> None:
    example = make_example(domains={"a": 9_000_000, "b": 9_000_000, "c": 150_000}, mixtures=())
    assert example.proposal.capped == ["c"]
    found = next(s for s in contents(example).sections if s.anchor == "weights")
    table = found.blocks[0].table
    assert table is not None
    assert {row[0]: row[-1] for row in table.rows}["c"] == "capped"
    assert any("max_epochs kept it" in item for block in found.blocks for item in block.items)
    assert any("Extrapolation factor 3:" in block.text for block in found.blocks)
    notes = found.blocks[-1].items
    assert any("held at" in note for note in notes)


# --- which runs -------------------------------------------------------------------------------


def test_runs_of_other_weights_or_settings_stay_out(make_example: Callable[..., Example]) -> None:
    example = make_example(mixtures=("uniform", "proposal"))
    elsewhere = {"purpose": "full", "scale": "full", "experiment": "demo", "label": "other"}
    tokens = example.split(example.proposal.natural)
    example.run(tokens, 0, mixture_name="proposal", evaluations=10, **elsewhere)
    example.run(tokens, 0, mixture_name="natural", evaluations=5, **elsewhere)
    data = pull(example.store, example.proposal_id, example.objective)
    assert {run["run_id"] for run in data.full_runs} == set(example.full.values())


def test_the_headline_is_what_compare_finds(example: Example) -> None:
    data = pull(example.store, example.proposal_id, example.objective)
    natural = data.comparisons[0]
    finals = [data.value(example.full["natural", seed]) or 0 for seed in (0, 1)]
    assert natural.baseline_value == pytest.approx(sum(finals) / 2)
    assert number(natural.baseline_value) in verdicts(data)[0].text


# --- files ------------------------------------------------------------------------------------


def test_the_same_database_gives_the_same_bytes(
    make_example: Callable[..., Example], tmp_path: Path
) -> None:
    example = make_example(mixtures=("uniform", "proposal"))
    write(example, tmp_path / "a")
    (example.store / DATABASE_NAME).unlink()
    write(example, tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 7  # two texts, five figures, and nothing temporary
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_html_needs_nothing_else(page: Page) -> None:
    known = {"xmlns", "xmlns:xlink"}
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object")
        for name, value in attributes.items():
            if name in ("href", "xlink:href", "src"):
                assert str(value).startswith("#")
            assert name in known or "://" not in str(value)
    figures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(figures) == 5
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_markdown_shows_the_figures_beside_it(paths: ReportPaths) -> None:
    named = re.findall(r"\]\((.+?)\)", paths.markdown.read_text())
    assert len(named) == 5
    for name in named:
        assert (paths.markdown.parent / name).read_bytes().startswith(b"\x89PNG")


def test_hostile_words_stay_words(make_example: Callable[..., Example], tmp_path: Path) -> None:
    example = make_example(
        domains={HOSTILE: 900_000, "prose": 900_000},
        notes=("<img src=x onerror=alert(1)> [link](javascript:x) `code`",),
        mixtures=("uniform", "proposal"),
    )
    paths = write(example, tmp_path / "out")
    html, markdown = paths.html.read_text(), paths.markdown.read_text()
    page = Page(html)
    assert not {"script", "img"} & {tag for tag, _ in page.tags}
    assert HOSTILE in [row[0] for row in page.tables["weights"][0]]
    assert "<script" not in html
    unescaped = re.sub(r"\\.", "", markdown)
    assert "script>" not in unescaped
    assert "<img" not in unescaped
    assert "](javascript" not in unescaped
    lines = unescaped.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| domain | weight"))
    assert {line.count("|") for line in lines[start : start + 4]} == {8}


def test_unknown_proposal_is_an_error(example: Example, tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match="no proposal 'feedfacefeedfacf'") as caught:
        write_report(
            example.store, proposal_id="feedfacefeedfacf", objective=Objective(), folder=tmp_path
        )
    assert example.proposal_id in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_quotes_in_an_id_are_data(example: Example, tmp_path: Path) -> None:
    with pytest.raises(MixtureError, match="there is no proposal"):
        pull(example.store, "x' OR 'a' = 'a", Objective())


def test_the_objective_is_a_choice_of_the_reader(example: Example) -> None:
    data = pull(example.store, example.proposal_id, Objective(metric="loss", weights={"law": 1}))
    run_id = example.full["natural", 0]
    assert data.value(run_id) == data.final(run_id)["law"]["loss_nats"]
    assert "weighted mean loss (nats)" in verdicts(data)[0].text


def test_numbers_read_well() -> None:
    assert number(None) == "\u2013"
    assert number(float("nan")) == "\u2013"
    assert number(26.2) == "26.20"
    assert number(1234567.0) == "1,234,567"
    assert number(-0.5, 2) == "\u22120.50"
    assert signed(-0.13909, as_fine_as=0.1294) == "\u22120.14"
    assert signed(0.004, as_fine_as=0.0021) == "+0.0040"
    assert [percent(x) for x in (0.0, 0.0004, 0.24)] == ["0.0%", "0.04%", "24.0%"]


def test_markdown_text_is_one_line_of_plain_text() -> None:
    assert markdown_text("a_b\n# c | <d>") == r"a\_b \# c \| \<d\>"
    assert markdown_text("$x$") == r"\$x\$"


def test_budget_is_in_the_subtitle(example: Example) -> None:
    assert BUDGET == 2_400_000
    assert contents(example).subtitle.startswith("autoscale for 2.4M tokens")
