"""Symmetrisation: the published procedure written plainly over a whole table, and the examples one can do by hand."""

from hypothesis import given
from hypothesis import strategies as st

from kotya.text.alignments import Links
from kotya.text.symmetrization import symmetrize

SIZE = 7
LINKS = st.frozensets(st.tuples(st.integers(0, SIZE - 1), st.integers(0, SIZE - 1)), max_size=12)


def published(forward: Links, backward: Links) -> Links:
    """Koehn's procedure: for every target word, for every source word, for every neighbour, until nothing is new."""
    union, linked = forward | backward, set(forward & backward)
    around = [(-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)]

    def source_is_free(i: int) -> bool:
        return all(source != i for source, _ in linked)

    def target_is_free(j: int) -> bool:
        return all(target != j for _, target in linked)

    grown = True
    while grown:
        grown = False
        for target in range(SIZE):
            for source in range(SIZE):
                if (source, target) not in linked:
                    continue
                for down, across in around:
                    i, j = source + across, target + down
                    if (i, j) in union and (source_is_free(i) or target_is_free(j)):
                        grown = grown or (i, j) not in linked
                        linked.add((i, j))
    for links in (forward, backward):
        for target in range(SIZE):
            for source in range(SIZE):
                if (source, target) in links and source_is_free(source) and target_is_free(target):
                    linked.add((source, target))
    return frozenset(linked)


@given(forward=LINKS, backward=LINKS)
def test_grow_diag_final_and_is_the_published_procedure(forward: Links, backward: Links) -> None:
    assert symmetrize(forward, backward) == published(forward, backward)


@given(forward=LINKS, backward=LINKS)
def test_it_stands_between_intersection_and_union(forward: Links, backward: Links) -> None:
    grown = symmetrize(forward, backward)
    assert symmetrize(forward, backward, "intersection") == forward & backward <= grown
    assert grown <= symmetrize(forward, backward, "union") == forward | backward
    covered = [{link[side] for link in grown} for side in range(2)]
    assert all(i in covered[0] or j in covered[1] for i, j in forward | backward)


def test_by_hand() -> None:
    both = {(0, 0)}
    assert symmetrize(frozenset(both | {(1, 1)}), frozenset(both)) == {(0, 0), (1, 1)}  # a diagonal neighbour
    assert symmetrize(frozenset(both | {(0, 1)}), frozenset(both | {(1, 0)})) == {(0, 0), (0, 1), (1, 0)}
    # far from any point: only where both words are free, and the forward one first
    assert symmetrize(frozenset(both | {(3, 3)}), frozenset(both | {(3, 4)})) == {(0, 0), (3, 3), (3, 4)} - {
        (3, 4)
    }
    assert symmetrize(frozenset({(0, 0), (0, 3)}), frozenset(both)) == {(0, 0)}
