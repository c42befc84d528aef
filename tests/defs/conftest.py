"""The whole graph on the tiny experiment, materialized once in this process."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mixture_assets.corpus import Workspace
from mixture_assets.definitions import defs
from mixture_assets.defs.jobs import all_domains
from mixture_assets.defs.resources import Lab
from mixture_assets.defs.server import register_domains


@dataclass
class Graph:
    """A Dagster instance, and the experiment that it works on."""

    instance: dg.DagsterInstance
    experiment: Path
    first: Any = None  # result of the run that made everything

    @property
    def store(self) -> Path:
        return self.experiment.parent / "store"

    def run(self, *assets: str, **options: Any) -> dg.ExecuteInProcessResult:
        """Materialize some assets, or all; partitioned ones over all domains in one run."""
        selection = dg.AssetSelection.assets(*assets) if assets else None
        return self.execute(selection, **options)

    def check(self, asset: str, name: str) -> Any:
        """Run one check alone, and return what it found."""
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        selection = dg.AssetSelection.checks(key)
        result = self.execute(selection, partitioned=False, raise_on_error=False)
        (evaluation,) = result.get_asset_check_evaluations()
        return evaluation

    def execute(
        self,
        selection: Any,
        *,
        partitioned: bool = True,
        raise_on_error: bool = True,
        run_config: Any = None,
        tags: dict[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        tags = tags or (all_domains(self.instance) if partitioned else {})
        return dg.materialize(
            [*(defs.assets or []), *(defs.asset_checks or [])],
            selection=selection,
            instance=self.instance,
            resources={"lab": Lab(experiment=str(self.experiment))},
            tags=tags,
            run_config=run_config,
            raise_on_error=raise_on_error,
        )

    def metadata(self, asset: str, partition: str = "") -> dict[str, Any]:
        """Values of the newest materialization."""
        records = self.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                dg.AssetKey(asset), asset_partitions=[partition] if partition else None
            ),
            limit=1,
        ).records
        found = records[0].asset_materialization
        assert found is not None
        return {key: value.value for key, value in found.metadata.items()}

    def n_events(self, asset: str) -> int:
        key = dg.AssetKey(asset)
        return len(self.instance.fetch_materializations(key, limit=1000).records)

    def copy(self, target: Path, instance: dg.DagsterInstance) -> "Graph":
        """A copy of the store, to be broken, with an instance of its own."""
        shutil.copytree(self.experiment.parent, target)
        return Graph(instance, target / self.experiment.name)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as found:
        yield found


@pytest.fixture(scope="package")
def graph(tiny_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graph]:
    """Everything materialized once. Tests read it; those that break things take a copy."""
    folder = tmp_path_factory.mktemp("graph") / "tiny"
    shutil.copytree(tiny_template, folder)
    with dg.instance_for_test() as instance:
        made = Graph(instance, folder / "tiny.toml")
        register_domains(Workspace.open(made.experiment), instance)
        made.first = made.run()
        yield made


@pytest.fixture
def broken(graph: Graph, tmp_path: Path) -> Iterator[Graph]:
    """A private copy of the finished store, and of all that Dagster knows of it."""
    home = tmp_path / "home"
    shutil.copytree(graph.instance.root_directory, home)
    with dg.instance_for_test(temp_dir=str(home)) as instance:
        yield graph.copy(tmp_path / "copy", instance)


@pytest.fixture
def fresh(instance: dg.DagsterInstance, tiny: Path) -> Graph:
    """Domains are registered and tokenized, nothing is materialized."""
    register_domains(Workspace.open(tiny), instance)
    return Graph(instance, tiny)
