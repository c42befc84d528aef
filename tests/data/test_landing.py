import os

import pytest

from mixture_assets.data.landing import landed_domains


@pytest.fixture
def root(tmp_path):
    for domain in ("books", "code"):
        (tmp_path / domain / "deep").mkdir(parents=True)
        (tmp_path / domain / "deep" / "a.jsonl").write_text('{"text": "x"}\n')
    return tmp_path


def test_no_root_means_nothing_has_landed(tmp_path):
    assert landed_domains(str(tmp_path / "missing")) == {}


def test_the_same_files_have_the_same_fingerprint(root):
    first = landed_domains(str(root))
    assert list(first) == ["books", "code"]
    assert landed_domains(str(root)) == first


def test_a_file_that_grows_ages_or_is_added_changes_its_domain_alone(root):
    shard = root / "books" / "deep" / "a.jsonl"
    seen = [landed_domains(str(root))]
    with open(shard, "a") as file:
        file.write("{}\n")
    seen.append(landed_domains(str(root)))
    os.utime(shard, (1, 1))
    seen.append(landed_domains(str(root)))
    (root / "books" / "b.txt").write_text("y")
    seen.append(landed_domains(str(root)))
    assert len({found["books"] for found in seen}) == 4
    assert len({found["code"] for found in seen}) == 1


def test_what_is_no_domain_and_no_shard_is_passed_over(root):
    before = landed_domains(str(root))
    (root / "empty").mkdir()
    (root / "not a domain").mkdir()
    (root / "not a domain" / "a.txt").write_text("x")
    (root / "_aside").mkdir()
    (root / "_aside" / "a.txt").write_text("x")
    (root / "harvest.json").write_text("{}")
    (root / "books" / "a.jsonl.tmp").write_text("x")
    (root / "books" / ".hidden.txt").write_text("x")
    (root / "books" / "README.md").write_text("x")
    assert landed_domains(str(root)) == before
