"""Verbs that make domains."""

from pathlib import Path

import click

from mixture_assets.cli.app import cli, json_option, print_json, print_table, say


@cli.command(epilog="Example: mixture cluster --root data/raw --out data/clusters --clusters 64")
@click.option("--root", required=True, help="Raw text: a folder or URL with one folder per domain.")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Gets one folder per cluster: the [data] root of an experiment.",
)
@click.option("--clusters", required=True, type=click.IntRange(min=1), help="At most so many.")
@click.option(
    "--embedding",
    default="tfidf",
    show_default=True,
    help="Or proxy:FOLDER (of a finished run), model2vec:FOLDER, sentence-transformers:FOLDER.",
)
@click.option(
    "--least",
    default=20,
    show_default=True,
    type=click.IntRange(min=1),
    help="Documents; a smaller cluster goes to the nearest other one.",
)
@click.option("--text-field", default="text", show_default=True, help="Field that holds the text.")
@click.option("--seed", default=0, show_default=True, help="Of the embedding and the clusters.")
@json_option
def cluster(
    root: str,
    out: Path,
    clusters: int,
    embedding: str,
    least: int,
    text_field: str,
    seed: int,
    as_json: bool,
) -> None:
    """Make domains of documents that are alike: one folder per cluster of all text under a root."""
    from mixture_assets.clusters import ClusterOptions, cluster_table, write_clusters

    options = ClusterOptions(
        n_clusters=clusters, least_documents=least, seed=seed, text_field=text_field
    )
    manifest = write_clusters(root, out, options, embedding=embedding)
    if as_json:
        print_json(manifest)
        return
    print_table(*cluster_table(manifest))
    for note in manifest["notes"]:
        click.echo(f"note: {note}")
    say(f'next: an experiment with [data] root = "{out}"')
