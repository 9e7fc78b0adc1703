"""Topics against answers found another way: counted by hand, pair by pair."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from jaxnmf import topics

WORDS = ("ant", "bee", "cow", "dog", "elk")
# documents as the words that they have; the last has none, and no one has an elk
DOCUMENTS = ["ab", "ab", "abc", "bc", "cd", "d", "acd", ""]
V = np.array([[2.0 * (w in d) for w in "abcde"] for d in DOCUMENTS])
H = np.array(
    [[4.0, 3.0, 2.0, 0.0, 0.0], [0.0, 0.0, 1.0, 6.0, 3.0], [0.0, 0.0, 0.0, 0.0, 1.0]]
)
LAYOUTS = [
    np.asarray,
    jnp.asarray,
    sparse.csr_array,
    sparse.csc_array,
    sparse.coo_array,
]


# --- words ---------------------------------------------------------------------------


def test_top_words_are_shares_in_order():
    assert topics.top_words(H, WORDS, k=2) == [
        [("ant", 4 / 9), ("bee", 3 / 9)],
        [("dog", 0.6), ("elk", 0.3)],
        [("elk", 1.0)],
    ]
    # scale does not matter, what is below zero counts as zero, ties keep their order
    assert topics.top_words(7 * H, WORDS, k=2) == topics.top_words(H, WORDS, k=2)
    assert topics.top_words([[-1, 1, 1, 0, 0], [0] * 5], WORDS) == [
        [("bee", 0.5), ("cow", 0.5)],
        [],
    ]


# --- coherence -----------------------------------------------------------------------


def pair_by_pair(listed, measure, epsilon):
    """The published sums, over Python sets."""
    have = {w: {i for i, d in enumerate(DOCUMENTS) if w in d} for w in "abcde"}
    D, found = len(DOCUMENTS), []
    for first, second in itertools.combinations(listed, 2):  # first weighs more
        one, other = have[second], have[first]
        if not one or not other:
            continue
        both = len(one & other)
        if measure == "umass":
            found.append(math.log((both + epsilon) / len(other)))
        elif not both and not epsilon:
            found.append(-1.0)
        else:
            p = both / D + epsilon
            pmi = math.log(p / (len(one) / D * (len(other) / D)))
            found.append(pmi / -math.log(p))
    return sum(found) / len(found) if found else math.nan


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("measure", "epsilon", "used"),
    [
        ("npmi", None, 0.0),
        ("npmi", 1e-12, 1e-12),
        ("umass", None, 1.0),
        ("umass", 0.5, 0.5),
    ],
)
def test_coherence_is_the_mean_over_pairs(layout, measure, epsilon, used):
    expected = [pair_by_pair(t, measure, used) for t in ("abc", "dec", "e")]
    found = topics.coherence(H, layout(V), measure, epsilon=epsilon)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(found[2])
    # by column numbers, with as few words as asked for
    listed = [[0, 1, 2], [3, 4, 2], [4]]
    again = topics.coherence(listed, layout(V), measure, epsilon=epsilon)
    np.testing.assert_array_equal(again, found)
    fewer = topics.coherence(listed, layout(V), measure, 2, epsilon)
    np.testing.assert_allclose(
        fewer, [pair_by_pair(t, measure, used) for t in ("ab", "de", "e")]
    )


def test_coherences_are_each_measures_own():
    found = topics.coherences(H, topics.occurrence(V), k=3)
    assert set(found) == {"npmi", "umass"}
    for measure, each in found.items():
        np.testing.assert_array_equal(each, topics.coherence(H, V, measure, k=3))


def test_npmi_by_hand_and_at_its_ends():
    # a and b are in 4 of 8 documents each, in 3 together: ln((3/8) / (1/4)) / ln(8/3)
    (found,) = topics.coherence([[0, 1]], V)
    assert found == pytest.approx(math.log(1.5) / math.log(8 / 3))
    ends = np.array(
        [[1, 1, 0, 1, 1], [1, 1, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]]
    )
    always, never, certain = topics.coherence([[0, 1], [0, 2], [3, 4]], ends)
    assert (always, never, certain) == (pytest.approx(1), -1, 0)
    # words apart from each other: NPMI and PMI are 0
    (independent,) = topics.coherence([[0, 1]], [[1, 1], [1, 0], [0, 1], [0, 0]])
    assert independent == pytest.approx(0, abs=1e-15)


def test_umass_by_hand():
    # ln((D(b, a) + 1) / D(a)), a the word of larger weight: 4 of a, 3 with both
    (found,) = topics.coherence([[0, 1]], V, "umass")
    assert found == pytest.approx(math.log(4 / 4))
    (found,) = topics.coherence([[0, 3]], V, "umass")
    assert found == pytest.approx(math.log(2 / 4))
    (found,) = topics.coherence([[3, 0]], V, "umass")
    assert found == pytest.approx(math.log(2 / 3))


def test_stored_zeros_repeats_and_the_callers_arrays():
    repeated = sparse.csr_array(
        ([1.0, 1.0, 0.0, 1.0, 1.0], ([0, 0, 0, 1, 2], [0, 0, 1, 1, 0])), shape=(3, 2)
    )
    before = repeated.copy()
    (found,) = topics.coherence([[0, 1]], repeated)
    assert found == -1.0  # 0 is stored where they would meet
    assert (repeated != before).nnz == 0


def test_a_large_sparse_matrix_is_never_made_dense():
    large = sparse.random_array((400_000, 50_000), density=1e-5, rng=0, format="csr")
    found = topics.coherence(np.eye(2, 50_000) + 0.1, large, k=20)
    assert found.shape == (2,)


# --- diversity -----------------------------------------------------------------------


def test_diversity_counts_distinct_words():
    assert topics.topic_diversity(H, k=2) == 4 / 5
    assert topics.topic_diversity([[0, 1], [1, 0], [0, 1]]) == 1 / 3
    assert topics.topic_diversity([[0, 1], [2, 3]]) == 1.0
    assert np.isnan(topics.topic_diversity(np.zeros((2, 3))))


# --- labels --------------------------------------------------------------------------


def test_the_table_says_where_each_label_goes():
    W = np.array([[3.0, 1.0], [2.0, 1.0], [1.0, 3.0], [1.0, 2.0], [1.0, 0.0]])
    labels = [0, 0, 0, 2, 2]
    table = topics.topic_label_table(W, labels, ("x", "y", "z"))
    np.testing.assert_allclose(table, [[2 / 3, np.nan, 1 / 2], [1 / 3, np.nan, 1 / 2]])
    assert table.columns.tolist() == ["x", "y", "z"]
    assert table.index.name == "topic"
    counts = topics.topic_label_table(W, labels, counts=True)
    assert counts.to_numpy().tolist() == [[2, 1], [1, 1]]
    assert counts.columns.tolist() == [0, 2]
    # the same product in other units: with H the scale has no say
    given = np.array([[1.0, 1.0], [1.0, 1.0]])
    scale = np.array([100.0, 0.01])
    moved = topics.topic_label_table(
        W * scale, labels, H=given / scale[:, None], counts=True
    )
    assert moved.equals(topics.topic_label_table(W, labels, H=given, counts=True))


# --- what does not fit ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: topics.top_words(H[0], WORDS), r"H: shape \(5,\) is not 2-D"),
        (lambda: topics.top_words(H * np.nan, WORDS), "H: has NaN"),
        (lambda: topics.top_words(H, WORDS[:4]), "words: 4 given"),
        (lambda: topics.top_words(H, WORDS, k=0), "k=0"),
        (lambda: topics.coherence(H, V, "pmi"), "measure: 'pmi' is not one of npmi"),
        (lambda: topics.coherence(H, V[:, :4]), r"topics: H of shape \(3, 5\)"),
        (lambda: topics.coherence(H, V[0]), r"V: shape \(5,\) is not 2-D"),
        (lambda: topics.coherence([[0, 5]], V), "topics: column indices from 0 to 5"),
        (lambda: topics.coherence([[0, 0]], V), "topics: .* contains duplicates"),
        (lambda: topics.coherence([["ant"]], V), "topics: must be H"),
        (lambda: topics.coherence(H, V, epsilon=-1.0), "epsilon=-1.0"),
        (lambda: topics.topic_diversity([[0.5]]), "topics: must be H"),
        (lambda: topics.topic_diversity(H, k=-1), "k=-1"),
        (lambda: topics.topic_label_table(V, [0]), r"labels: shape \(1,\)"),
        (
            lambda: topics.topic_label_table(V, [3] * 8, ("x", "y")),
            "labels: must be integers",
        ),
        (lambda: topics.tfidf(-V), "V: has negative"),
        (lambda: topics.tfidf(V[0]), "V: shape"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(call, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        call()
