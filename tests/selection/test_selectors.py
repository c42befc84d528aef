"""The registry, and what every selector promises."""

import subprocess
import sys

import numpy as np
import pytest

from mixture_assets.core.errors import MixtureError
from mixture_assets.methods.embedding import fit_tfidf
from mixture_assets.selection.choose import choose
from mixture_assets.selection.documents import Pool
from mixture_assets.selection.scores import write_scores
from mixture_assets.selection.selectors import INFORMED, NAMES, build_selector
from mixture_assets.selection.snapshots import Snapshot
from tests.selection.conftest import SPECIALIST
from tests.selection.snapshots import make_case


@pytest.fixture(scope="module")
def build(tuned, english, tokenizer, tmp_path_factory):
    case = make_case(tmp_path_factory.mktemp("run"), "llama", False, tokenizer, english[:3])
    settings = {
        "random": {"seed": 5},
        "bm25": {},
        "embedding": {"embedding": fit_tfidf(english + SPECIALIST, n_dimensions=16)},
        "perplexity": {"folder": tuned["llama"], "order": "lowest"},
        "gradient": {"snapshots": [Snapshot(case.base, f) for f in case.folders]},
    }
    return lambda name: build_selector(name, **settings[name])


@pytest.mark.parametrize("name", NAMES)
def test_no_order_of_shards_or_documents_changes_what_is_chosen(
    build, pool_of, documents_of, specialist, english, tmp_path, name
):
    one, other = pool_of(english[:25], english[25:]), pool_of(english[::-1])
    turned = documents_of(SPECIALIST[::-1])
    sets = [
        write_scores(tmp_path / "one", build(name), one, specialist),
        write_scores(tmp_path / "two", build(name), other, turned),
        write_scores(
            tmp_path / "three",
            build(name),
            Pool(dict(reversed(one.shards.items())), one.tokenizer),
            specialist,
        ),
    ]
    for share in (0.1, 0.5):
        chosen = [choose(s, share).doc_ids for s in sets]
        assert chosen[0] == chosen[1] == chosen[2]
    tables = [dict(zip(s.rows().hashes.tolist(), s.rows().scores, strict=True)) for s in sets]
    for table in tables[1:]:
        assert table == pytest.approx(tables[0], rel=1e-4, abs=1e-6)
    assert sets[0].digest == sets[2].digest != sets[1].digest
    assert len(set(tables[0].values())) > 8


@pytest.mark.parametrize("name", NAMES)
def test_scores_are_the_same_bits_again_and_flops_are_counted(
    build, pool, specialist, tmp_path, name
):
    one, two = (write_scores(tmp_path / str(i), build(name), pool, specialist) for i in range(2))
    assert np.array_equal(one.rows().scores, two.rows().scores)
    assert one.digest == two.digest
    has_model = name in ("perplexity", "gradient")
    assert (one.flops > 0) is has_model
    assert one.flops == two.flops
    assert one.method == name


def test_names_and_settings_are_told():
    assert INFORMED == ("bm25", "embedding", "perplexity", "gradient")
    with pytest.raises(MixtureError, match=r"there is no selector 'perplexty'.*perplexity"):
        build_selector("perplexty")
    with pytest.raises(MixtureError, match="selector 'bm25' has no setting 'k2'"):
        build_selector("bm25", k2=1)


def test_cheap_selectors_load_no_torch():
    code = (
        "import sys; from mixture_assets.selection.selectors import build_selector as b; "
        "from mixture_assets.selection import scores, choose, embedding; "
        "b('random'); b('bm25'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
