"""The map of a selection: which rows it shows, where they lie, and a picture that holds nothing from elsewhere."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as xml

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.contract.errors import ContractError
from curate.report import selection_map
from curate.report.selection_map import draw, project, sample


def blobs(n: int = 90, groups: int = 3, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """(vectors, group): rows about one axis a group."""
    rng = np.random.default_rng(0)
    group = np.arange(n) % groups
    return (np.eye(d)[group] + 0.05 * rng.normal(size=(n, d))).astype(np.float32), group


def ids_of(n: int) -> list[str]:
    return [f"id{i:05d}" for i in range(n)]


# which rows are shown


def test_a_small_pool_is_shown_whole_in_the_order_of_ids():
    ids = ["c", "a", "b"]
    assert sample(ids, np.array([2])).tolist() == [1, 2, 0]


def test_of_a_large_pool_so_many_of_each_kind_are_drawn(monkeypatch):
    monkeypatch.setattr(selection_map, "_PICKS", 20)
    monkeypatch.setattr(selection_map, "_ROWS", 30)
    chosen = np.arange(0, 400, 10)
    shown = sample(ids_of(400), chosen, seed=1)
    assert len(set(shown.tolist())) == 50
    assert np.isin(shown, chosen).sum() == 20
    assert sample(ids_of(400), chosen, seed=2).tolist() != shown.tolist()


def test_every_chosen_row_is_shown_where_there_is_room(monkeypatch):
    monkeypatch.setattr(selection_map, "_ROWS", 5)
    chosen = np.array([3, 77, 150])
    assert set(chosen.tolist()) <= set(sample(ids_of(200), chosen).tolist())


def test_the_rows_shown_do_not_depend_on_the_order_of_the_pool(monkeypatch):
    monkeypatch.setattr(selection_map, "_ROWS", 30)
    ids = ids_of(200)
    order = np.random.default_rng(1).permutation(200)
    shuffled = [ids[i] for i in order]
    chosen = np.array([5, 9])
    there = np.flatnonzero(np.isin(order, chosen))
    assert [ids[i] for i in sample(ids, chosen)] == [shuffled[i] for i in sample(shuffled, there)]


# where they lie


def test_neighbours_on_the_map_are_of_one_group():
    vectors, group = blobs()
    points, how = project(vectors)
    assert how == "t-SNE" and points.shape == (90, 2) and points.dtype == np.float32
    distance = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert (group[distance.argmin(axis=1)] == group).all()


def test_the_same_rows_lie_at_the_same_points():
    vectors, _ = blobs(60)
    np.testing.assert_array_equal(project(vectors)[0], project(vectors.copy())[0])


def test_the_length_of_a_vector_does_not_move_it():
    vectors, _ = blobs(20)
    np.testing.assert_allclose(project(vectors * 4)[0], project(vectors)[0], atol=1e-5)


def test_a_tiny_pool_lies_on_its_first_two_principal_components():
    vectors, _ = blobs(30)
    points, how = project(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    assert how == "PCA"
    np.testing.assert_allclose(np.abs(points), np.abs(u[:, :2] * s[:2]), atol=1e-5)


@pytest.mark.parametrize("vectors", [np.ones((80, 4)), np.zeros((80, 4)), np.ones((3, 1)), np.ones((1, 5))])
def test_rows_that_are_all_the_same_lie_at_one_point(vectors):
    points, how = project(vectors.astype(np.float32))
    assert how == "PCA" and points.shape == (len(vectors), 2)
    np.testing.assert_allclose(points, 0, atol=1e-5)


def test_a_vector_that_is_not_finite_is_one_sentence():
    vectors, _ = blobs(60)
    vectors[7, 2] = np.nan
    with pytest.raises(ContractError, match="the map needs finite vectors, and row 7"):
        project(vectors)


# the picture


def picture(names: dict[int, str] | None = None) -> str:
    vectors, group = blobs()
    names = {0: "one", 1: "two", 2: "three"} if names is None else names
    return draw(vectors[:, :2], np.arange(90) % 9 == 0, group, names)


def words(svg: str) -> list[str]:
    return [text.text or "" for text in xml.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_names_its_clusters_and_asks_for_nothing_from_elsewhere():
    svg = picture()
    assert sorted(words(svg)) == ["one", "three", "two"]
    assert all(link.startswith(("data:image/png", "#")) for link in re.findall(r'href="([^"]*)"', svg))
    assert "var(--ink)" in svg and not re.search(r'\sid="g|url\(http|@import', svg)


def test_hostile_names_are_text():
    hostile = "<script>'$x_1$'</script> & $"
    svg = picture({0: hostile})
    assert words(svg) == [hostile]
    assert "<script" not in svg


def test_noise_and_clusters_without_a_name_are_not_named():
    points = np.random.default_rng(0).uniform(size=(30, 2))
    label = np.repeat([-1, 0, 1], 10)
    assert words(draw(points, label == 0, label, {-1: "noise", 1: "here"})) == ["here"]


def test_the_points_are_one_image_however_many_they_are():
    points = np.random.default_rng(0).uniform(size=(4000, 2)).astype(np.float32)
    svg = draw(points, np.arange(4000) % 5 == 0, np.zeros(4000, int), {})
    assert len(svg) < 600_000 and svg.count("<image") <= 2


def test_the_same_points_give_the_same_bytes_whatever_the_users_settings_are():
    import matplotlib as mpl

    first = picture()
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "text.color": "red"}):
        assert picture() == first


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    clusters=st.integers(1, 25),
    name=st.sampled_from(["a", "array, axis", "a long, name, of many, very many words", "w" * 50, "日本語の文章"]),
)
def test_no_two_names_touch_and_none_leaves_the_map(seed, clusters, name):
    rng = np.random.default_rng(seed)
    at = rng.uniform(size=(200, 2)) ** 3
    label = rng.integers(0, clusters, 200)
    placed = selection_map._placed(at, label, {cluster: name for cluster in range(clusters)})  # noqa: C420
    shown = placed[0][0]
    letters = sum(2 if letter > "\u2e80" else 1 for letter in shown)
    width = letters * selection_map._LETTER / 72 / selection_map._WIDTH
    height = selection_map._LEADING / 72 / selection_map._HEIGHT
    assert {text for text, _, _ in placed} == {shown} and len(shown) <= 32
    assert 1 <= len(placed) <= clusters
    for (_, x, y), (_, u, v) in itertools.combinations(placed, 2):
        assert abs(x - u) >= width - 1e-9 or abs(y - v) >= height - 1e-9
    for _, x, y in placed:
        assert width / 2 <= x <= 1 - width / 2 and height / 2 <= y <= 1 - height / 2


def test_of_two_names_in_one_place_the_larger_cluster_is_named_there():
    at = np.full((30, 2), 0.5)
    label = np.repeat([0, 1], [10, 20])
    placed = selection_map._placed(at, label, {0: "small", 1: "large"})
    assert placed[0] == ("large", 0.5, 0.5)
    assert placed[1][0] == "small" and placed[1][2] != 0.5


def test_a_long_name_loses_its_last_words():
    assert selection_map._short("datetime, namespace, expressions") == "datetime, namespace, expressions"
    assert selection_map._short("datetime, datetimenamespace, expression") == "datetime, datetimenamespace"
    assert selection_map._short("x" * 40) == "x" * 31 + "…"
