"""The algebra of dimensions."""

import pytest

from compressors.graph.dims import ONE, Leaf, MisalignedError, concat, factor, fix, leaves, product, resolve, split, unify


def sizes(dim):
    return [leaf.size for leaf in leaves(dim)]


def test_a_view_refines_a_width_everywhere():
    hidden = Leaf(12)
    same = Leaf(12)
    unify(hidden, same)
    outer, inner = factor(hidden, 4)
    assert (outer.size, inner.size) == (3, 4)
    assert leaves(same) == leaves(hidden) == [*leaves(outer), *leaves(inner)]


def test_products_align_across_different_groupings():
    a, b = product([Leaf(2), Leaf(12)]), product([Leaf(6), Leaf(4)])
    unify(a, b)
    assert sizes(a) == sizes(b) == [2, 3, 4]
    assert leaves(a) == leaves(b)


def test_concatenations_align_by_splitting():
    a, b = concat([Leaf(3), Leaf(5)]), concat([Leaf(6), Leaf(2)])
    unify(a, b)
    assert sizes(a) == sizes(b) == [3, 3, 2]
    assert leaves(a) == leaves(b)


def test_a_fused_projection_splits_at_units():
    heads, width = Leaf(4), Leaf(8)
    fused = product([Leaf(3), heads, width])
    first, rest = split(fused, 32)
    assert leaves(first) == [heads, width]
    assert rest.size == 64
    with pytest.raises(MisalignedError):
        split(first, 12)


def test_structures_that_cannot_be_the_same_are_refused():
    with pytest.raises(MisalignedError):
        unify(product([Leaf(4), Leaf(6)]), product([Leaf(6), Leaf(4)]))
    with pytest.raises(MisalignedError):
        unify(Leaf(3), Leaf(4))


def test_what_is_tied_to_something_fixed_is_fixed():
    a, b = Leaf(6), product([Leaf(2), Leaf(3)])
    fix(a, "because")
    unify(a, b)
    assert [leaf.fixed for leaf in leaves(b)] == ["because", "because"]


def test_an_input_keeps_one_axis_when_it_is_sliced():
    length = Leaf(10, "input", "the input's size")
    split(length, 4)
    assert resolve(length) is length


def test_size_one_vanishes_from_products():
    leaf = Leaf(5)
    assert product([ONE, leaf, ONE]) is leaf
