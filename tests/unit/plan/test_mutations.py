"""Every edit of a spec and of its inputs, run afresh.

The tensors, optimizer and generator states of a stage are equal if and only if its digest is, and
equal metrics follow from equal digests of both kinds. It really trains: a net of three convs, about
half a second each.
"""

from __future__ import annotations

import pytest

from tests import mutations
from tests.sample import sample


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return mutations.make(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("name", sample(list(mutations.MUTATIONS), 2))
def test_tensors_are_equal_if_and_only_if_the_digests_are(name, base, tmp_path):
    made = mutations.make(tmp_path, mutations.MUTATIONS[name])
    for stage, one in made.items():
        same_tensors = one.contents == base[stage].contents
        same_digest = one.identity == base[stage].identity
        if (name, stage) in mutations.CONSERVATIVE:
            assert same_tensors and not same_digest, f"{stage}: it is exact now"
            continue
        assert same_tensors == same_digest, stage
        if same_digest and one.evaluation == base[stage].evaluation:
            assert one.metrics == base[stage].metrics, stage


def test_the_same_spec_gives_the_same(base, tmp_path):
    assert mutations.make(tmp_path) == base


def test_most_edits_change_something():
    """The list above would prove nothing if the edits were all of one kind."""
    assert len(mutations.MUTATIONS) > 70 and len(mutations.CONSERVATIVE) <= 10
