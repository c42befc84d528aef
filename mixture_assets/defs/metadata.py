"""What the pages show: metadata of each asset from the library's objects.

Put formatting here. Keep numbers as numbers, under keys that never change: Dagster draws them
over time. A figure is a PNG inside markdown, below 60 kB, because it lives in the event log.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from mixture_assets import pipeline, policy_page, running, summaries
from mixture_assets.choice import epochs
from mixture_assets.compute.pool import PoolReport
from mixture_assets.core.errors import MixtureError
from mixture_assets.core.problem import Proposal
from mixture_assets.core.units import tokens_text
from mixture_assets.corpus import Corpus, Workspace
from mixture_assets.data.shards import RawShard
from mixture_assets.data.token_store import DomainTokens
from mixture_assets.data.tokenizer import FrozenTokenizer
from mixture_assets.evaluation.comparison import Comparison
from mixture_assets.methods.fit import DDOFit
from mixture_assets.plans import PlannedRun
from mixture_assets.policy_page import Rows
from mixture_assets.report.page import ReportPaths, figure_png
from mixture_assets.search import Search
from mixture_assets.selection.scores import ScoreSet
from mixture_assets.store import database
from mixture_assets.store.domain_log import DomainState
from mixture_assets.store.ingest import IngestReport
from mixture_assets.store.query import query

Metadata = dict[str, Any]

_MOST_SERIES = 20  # plots of one page
_LONGEST_PAGE = 40_000  # characters in the event log
_FIGURE_LINE = re.compile(r"^!\[.*\n+", re.MULTILINE)  # pictures lie beside the file
_SHORT = 24  # characters that a column of the page has room for


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A markdown table; short cells stay on one line, a bar stays inside its cell."""
    lines = [header, ["---"] * len(header), *rows]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))


def _cell(value: object) -> str:
    text = str(value).replace("|", "\\|").replace("\n", " ")
    return text.replace(" ", "\u00a0") if len(text) < _SHORT else text


def bullets(sentences: Sequence[str]) -> dg.MarkdownMetadataValue:
    """A sentence a line."""
    return dg.MetadataValue.md("\n".join(f"- {text}" for text in sentences) or "none")


def picture(png: bytes) -> dg.MarkdownMetadataValue:
    """A PNG that the page shows."""
    return dg.MetadataValue.md(f"![figure](data:image/png;base64,{base64.b64encode(png).decode()})")


def figure(workspace: Workspace, proposal_id: str, name: str) -> Metadata:
    """A figure about a proposal, from the database; in its place the reason if there is none.

    Not an error: somebody's open shell on the database must not stop a training.
    """
    pipeline.refresh_database(workspace)
    try:
        png = figure_png(workspace.store, name, proposal_id, workspace.experiment.objective)
    except MixtureError as error:
        return {f"{name}_figure": str(error)}
    return {f"{name}_figure": picture(png)}


def link(path: Path) -> dg.MetadataValue:
    """A file or folder on this machine."""
    return dg.MetadataValue.path(str(path))


# --- data -------------------------------------------------------------------------------------


def of_quarantine(state: DomainState) -> Metadata:
    """Why a domain is left out, or goes on with an earlier state."""
    return {
        "quarantined": state.problem,
        "hint": state.hint,
        "goes_on_with": state.good_token_set or "nothing",
    }


def of_shards(shards: Sequence[RawShard]) -> Metadata:
    """A domain's raw shards."""
    return {
        "n_shards": len(shards),
        "dagster/row_count": len(shards),
        "n_bytes": sum(s.n_bytes for s in shards),
        "formats": ", ".join(sorted({s.format for s in shards})),
        "first_shard": shards[0].url,
    }


def of_tokenizer(tokenizer: FrozenTokenizer) -> Metadata:
    """The frozen tokenizer."""
    return {
        "vocab_size": tokenizer.vocab_size,
        "engine": tokenizer.engine,
        "tokenizer_id": tokenizer.digest,
        "file": link(tokenizer.path),
    }


def of_tokens(tokens: DomainTokens, store: Path) -> Metadata:
    """A domain's tokens."""
    return {
        "available_tokens": tokens.available_tokens,
        "dagster/row_count": tokens.n_documents,
        "n_duplicate_documents": tokens.n_duplicate_documents,
        "validation_tokens": tokens.validation_tokens,
        "token_set_id": tokens.digest,
        "folder": link(store / "tokens" / tokens.domain),
    }


def of_validation(corpus: Corpus, corpus_id: str) -> Metadata:
    """What every run is measured on."""
    domains = sorted(corpus.domains.items())
    rows = [
        (n, d.validation_documents, d.validation_tokens, d.available_tokens) for n, d in domains
    ]
    return {
        "n_domains": len(rows),
        "dagster/row_count": sum(row[1] for row in rows),
        "validation_documents": sum(row[1] for row in rows),
        "validation_tokens": sum(row[2] for row in rows),
        "training_tokens": sum(row[3] for row in rows),
        "corpus_id": corpus_id,
        "domains": table(
            ("domain", "validation documents", "validation tokens", "training tokens"), rows
        ),
    }


# --- runs -------------------------------------------------------------------------------------


def of_refit(workspace: Workspace, search: Search) -> Metadata:
    """The ways that were open when the domains last changed, and what becomes of earlier runs."""
    options, fates = summaries.refit_tables(workspace, search)
    if not options[1]:
        return {"way": search.way}
    return {"way": search.way, "ways": table(*options), "earlier_runs": table(*fates)}


def of_plan(workspace: Workspace, planned: Sequence[PlannedRun]) -> Metadata:
    """Runs that a method asks for."""
    rows = [(p.label, tokens_text(p.spec.budget_tokens), p.run_id) for p in planned]
    return {
        "n_runs": len(planned),
        "n_missing": len(running.missing_runs(workspace, planned)),
        "tokens": sum(p.spec.budget_tokens for p in planned),
        "runs": table(("run", "tokens", "id"), rows),
    }


def of_training(workspace: Workspace, planned: Sequence[PlannedRun], pool: PoolReport) -> Metadata:
    """What a pool of runs took."""
    return {
        "n_runs": len(planned),
        "n_trained": len(pool.done),
        "dagster/row_count": len(planned),
        "seconds": pool.seconds,
        "tokens": sum(p.spec.budget_tokens for p in planned),
        "flops": summaries.flops_of(workspace, planned),
        "runs": table(*run_table(workspace, planned)),
    }


def of_weights(run: PlannedRun, rows: Rows) -> Metadata:
    """What a run that steers itself decided: numbers that the page draws while it trains."""
    largest = sorted(rows, key=lambda row: (-row["weight"], row["domain"]))[:_MOST_SERIES]
    weights = {f"{run.label}, {row['domain']}": row["weight"] for row in largest}
    return {"run": run.label, "tokens": rows[0]["tokens"]} | weights


def of_policies(workspace: Workspace, planned: Sequence[PlannedRun]) -> Metadata:
    """What was trained, losses on the specialist set, and the weight path of each policy."""
    found: Metadata = {"run_ids": " ".join(run.run_id for run in planned)}
    header, rows = policy_page.policy_table(workspace, planned)
    if rows:
        found["specialist"] = table(header, rows)
    drawn: set[str] = set()
    for run in planned:
        if run.mixture_name not in drawn and (png := policy_page.weight_path_png(workspace, run)):
            drawn.add(run.mixture_name)
            found[f"{run.mixture_name}_weights_figure"] = picture(png)
    return found


def run_table(workspace: Workspace, planned: Sequence[PlannedRun]) -> summaries.Table:
    """Objective and duration of every finished run."""
    name = workspace.experiment.objective.name
    rows: list[tuple[str, ...]] = []
    for run in planned:
        trial = of_trial(workspace, run)
        if trial:
            number = f"{trial['objective']:.4g}"
            rows.append((run.label, number, f"{trial['seconds']:.1f}", run.run_id))
    return ("run", name, "seconds", "id"), rows


def of_scores(scores: ScoreSet) -> Metadata:
    """One method's scores over a pool."""
    return {
        "score_set_id": scores.digest,
        "dagster/row_count": scores.n_documents,
        "n_tokens": scores.n_tokens,
        "n_without_score": scores.n_nan,
        "flops": scores.flops,
        "seconds": scores.seconds,
        "folder": link(scores.path),
    }


def of_trial(workspace: Workspace, run: PlannedRun) -> Metadata:
    """One finished run; nothing for one without a result."""
    result = running.result_of(workspace, run)
    if result is None:
        return {}
    losses = {domain: row["loss_nats"] for domain, row in result["losses"].items()}
    rows = [
        (domain, f"{losses[domain]:.4f}", f"{run.spec.tokens.get(domain, 0):,}")
        for domain in sorted(losses)
    ]
    value = workspace.experiment.objective.known_value(losses)
    return {
        "label": run.label,
        **({} if value is None else {"objective": value}),
        "tokens": run.spec.budget_tokens,
        "seconds": result["seconds"],
        "dagster/row_count": len(rows),
        "losses": table(("domain", "loss (nats)", "tokens trained on"), rows),
        "folder": link(workspace.store / "runs" / run.run_id),
    }


# --- weights ----------------------------------------------------------------------------------


def of_optima(fits: Mapping[str, DDOFit]) -> Metadata:
    """DDO's curves at each scale."""
    curves = [(scale, curve) for scale, fit in fits.items() for curve in fit.curves]
    rows = [
        (
            scale,
            c.domain,
            f"{c.optimum:.2f}",
            *("-" if value is None else f"{value:.3g}" for value in (c.a, c.b, c.c)),
            "does not help" if not c.is_improving else "at floor" if c.is_at_floor else "",
        )
        for scale, c in curves
    ]
    noise = {f"noise_sd_{s}": f.noise_sd for s, f in fits.items() if f.noise_sd is not None}
    return {
        "n_fits": len(rows),
        "dagster/row_count": len(rows),
        "n_at_floor": sum(c.is_at_floor for _, c in curves),
        "n_not_improving": sum(not c.is_improving for _, c in curves),
        **noise,
        "fits": table(("scale", "domain", "optimum (x base)", "a", "b", "c", "remarks"), rows),
    }


def of_proposal(proposal_id: str, proposal: Proposal) -> Metadata:
    """A proposal's weights, and what must be known of them."""
    noise = {} if proposal.noise_sd is None else {"noise_sd": proposal.noise_sd}
    return {
        "proposal_id": proposal_id,
        "extrapolation_factor": proposal.extrapolation_factor,
        **noise,
        **_weight_series(proposal),
        "dagster/row_count": len(proposal.mixture),
        "weights": table(*summaries.weight_table(proposal)),
        "notes": dg.MetadataValue.md("\n".join(f"- {note}" for note in proposal.notes) or "none"),
    }


def _weight_series(proposal: Proposal) -> Metadata:
    """A number for each domain, which the page draws over time; the largest, if there are many."""
    largest = sorted(proposal.mixture.items(), key=lambda item: (-item[1], item[0]))
    return {f"weight_{name}": weight for name, weight in largest[:_MOST_SERIES]}


def of_choice(
    workspace: Workspace, corpus: Corpus, proposal_id: str, proposal: Proposal, path: Path
) -> Metadata:
    """The weights that full runs train with."""
    weights = proposal.mixture
    passes = epochs(dict(weights), workspace, corpus)
    moved = sum(abs(weights[n] - proposal.natural[n]) for n in weights) / 2
    rows = [(n, f"{w:.4f}", f"{passes[n]:.2f}") for n, w in sorted(weights.items())]
    return {
        "proposal_id": proposal_id,
        "largest_weight": max(weights.values()),
        "most_epochs": max(passes.values()),
        "share_moved_from_natural": moved,
        "weights": table(("domain", "weight", "epochs"), rows),
        "file": link(path),
    }


# --- evaluation and records -------------------------------------------------------------------


def of_evaluation(
    workspace: Workspace, planned: Sequence[PlannedRun], comparisons: Sequence[Comparison]
) -> Metadata:
    """Full runs beside each other, and the proposal against each baseline."""
    rows = [
        (
            c.baseline,
            f"{c.difference:+.4f}",
            "-" if c.low is None or c.high is None else f"{c.low:+.4f} .. {c.high:+.4f}",
            "never reached" if c.speed_up is None else f"{c.speed_up:.0%}",
            c.verdict,
        )
        for c in comparisons
    ]
    header = ("against", "difference", "90 % interval", "tokens saved", "verdict")
    numbers = {f"difference_to_{c.baseline}": c.difference for c in comparisons}
    speed = {f"speed_up_on_{c.baseline}": c.speed_up for c in comparisons if c.speed_up is not None}
    return {
        **numbers,
        **speed,
        "dagster/row_count": len(rows),
        "comparison": table(header, rows),
        "losses": table(*summaries.evaluation_table(workspace, planned)),
    }


_COUNT_ALL = " UNION ALL ".join(
    f"SELECT '{name}' AS name, count(*) AS n FROM {name}" for name in sorted(database.tables())
)


def of_database(workspace: Workspace, ingested: IngestReport) -> Metadata:
    """What the index took in."""
    path = workspace.store / "mixture.duckdb"
    total = query(workspace.store, _COUNT_ALL).to_dicts()
    rows = [(each["name"], each["n"], ingested.rows.get(each["name"], 0)) for each in total]
    return {
        "dagster/row_count": sum(each["n"] for each in total),
        "rows_taken_in": sum(ingested.rows.values()),
        "files_waiting": ingested.waiting,
        "seconds": ingested.seconds,
        "n_bytes": path.stat().st_size if path.exists() else 0,
        "tables": table(("table", "rows", "new or changed"), rows),
        "file": link(path),
    }


def of_report(paths: ReportPaths) -> Metadata:
    """The page's words, and where it lies.

    No link: a browser opens no file:// address from a page that came over http, and serving the
    store would be a second server. The path can be copied, and the text stands here.
    """
    text = paths.markdown.read_text("utf-8")
    return {
        "page": dg.MetadataValue.md(_FIGURE_LINE.sub("", text)[:_LONGEST_PAGE]),
        "file": link(paths.html),
        "markdown_file": link(paths.markdown),
        "n_bytes": paths.html.stat().st_size,
    }
