"""The picture of a beam tree, held to trees that a real search left: all of it is drawn, in its place and look."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caught import Catch
from kotya.errors import KotyaError
from kotya.pictures import beams
from kotya.pictures.beams import BeamTree, Node, shown
from kotya.search.beam import Beam
from kotya.search.config import SearchConfig
from kotya.search.ensemble import Ensemble
from kotya.search.trace import LineTrace
from toy_decoder import END, ROLES, one, toy

PIECES = ["<s>", "</s>", "▁a", "b", "▁c\x80", "▁$d$"]


def searched(beam: int, source: list[int]) -> dict[str, Any]:
    traces: dict[int, LineTrace] = {}
    config = SearchConfig(beam=beam, max_length_ratio=0, max_length_extra=6)
    found = one(Beam(Ensemble([toy()], END), ROLES, config, traces=traces), source)
    return traces[0].tree(0, ["▁x", "y"], lambda ids: [PIECES[i] for i in ids], found)


TREES = [searched(beam, source) for beam in (1, 2, 4) for source in ([3, 4], [5, 2, 3])]
each_tree = pytest.mark.parametrize("raw", TREES)


def drawn(tree: BeamTree, catch: Catch) -> Any:
    figures = catch(beams)
    beams.draw_beams(tree, Path("b.png"))
    [figure] = figures
    return figure


def descendants(tree: BeamTree, node: Node) -> list[Node]:
    """Itself and what came of it."""
    found = {node.id}
    for other in tree.nodes:
        if other.parent in found:
            found.add(other.id)
    return [other for other in tree.nodes if other.id in found]


@each_tree
def test_the_winner_is_the_best_hypothesis(raw: dict[str, Any]) -> None:
    tree = BeamTree.parse(raw)
    by_id = {node.id: node for node in tree.nodes}
    path = [by_id[id] for id in tree.winner()]
    assert [node.piece for node in path[1:-1]] == raw["hypotheses"][0]["pieces"]
    assert path[0].parent is None
    assert path[-1].piece == beams.END
    assert path[-1].sum == pytest.approx(raw["hypotheses"][0]["log_probability"], abs=1e-5)
    assert [node.step for node in path] == list(range(len(path)))


@each_tree
def test_who_died_and_when(raw: dict[str, Any]) -> None:
    """Someone is dead from the first step on at which nothing of theirs is open or has ended."""
    tree = BeamTree.parse(raw)
    deaths, roles = tree.deaths(), tree.roles()
    for node in tree.nodes:
        line = descendants(tree, node)
        survives = any(other.fate in ("finished", "stopped") for other in line)
        assert (roles[node.id] == "dead") == (not survives)
        if not survives:
            open_at = {other.step for other in line if other.fate == "open"}
            expected = next(step for step in range(node.step, tree.steps + 2) if step not in open_at)
            assert deaths[node.id] == expected
    assert set(deaths) == {id for id, role in roles.items() if role == "dead"}


@each_tree
def test_every_extension_is_drawn_with_its_scores(raw: dict[str, Any], catch: Catch) -> None:
    tree = BeamTree.parse(raw)
    axis = drawn(tree, catch).axes[0]
    texts = [text.get_text().replace(r"\$", "$") for text in axis.texts]
    deaths = tree.deaths()
    wanted: list[str] = []
    for node in tree.nodes:
        wanted.append(shown(node.piece).replace(r"\$", "$"))
        if node.parent is not None:
            scores = f"{node.sum:.2f}" + (f" → {node.score:.2f}" if node.fate == "finished" else "")
            wanted.append(scores.replace("-", "−"))
            wanted.append(
                f"✗{deaths[node.id]}" if node.id in deaths else "open" if node.fate == "stopped" else ""
            )
    for text in wanted:
        texts.remove(text)  # each has its own; what is left is title, steps and legend
    assert len([patch for patch in axis.patches if patch.get_gid() == "edge"]) == len(tree.nodes) - 1
    assert len([text for text in texts if text]) == 1 + tree.steps + 4


@each_tree
def test_the_winner_alone_is_bold(raw: dict[str, Any], catch: Catch) -> None:
    tree = BeamTree.parse(raw)
    axis = drawn(tree, catch).axes[0]
    bold = [
        text
        for text in axis.texts
        if text.get_weight() == "bold" and text.get_fontsize() == 9.5 and text.get_text()
    ]
    by_id = {node.id: node for node in tree.nodes}
    path = [by_id[id] for id in tree.winner()]
    assert [text.get_text() for text in bold] == [shown(node.piece) for node in path]
    places = [text.get_position()[0] for text in bold]
    assert places == sorted(places)


@each_tree
def test_steps_go_across_and_no_node_covers_another(raw: dict[str, Any], catch: Catch) -> None:
    tree = BeamTree.parse(raw)
    figure = drawn(tree, catch)
    axis = figure.axes[0]
    boxes = [patch.get_window_extent() for patch in axis.patches if patch.get_gid() != "edge"]
    sides = np.array([box.extents for box in boxes])
    apart = (sides[:, None, 2:] <= sides[None, :, :2]).any(-1)  # one ends before the other begins
    assert np.all(apart | apart.T | np.eye(len(boxes), dtype=bool))
    for text in axis.texts:
        extent = text.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.x1
        middle = (extent.min + extent.max) / 2
        for x0, y0, x1, y1 in sides[np.all((sides[:, :2] <= middle) & (middle <= sides[:, 2:]), axis=1)]:
            assert x0 <= extent.x0  # what is written on a node stays on it
            assert extent.x1 <= x1
            assert y0 <= middle[1] <= y1


def test_pieces() -> None:
    assert shown("▁cat") == "cat"
    assert shown("ю") == "·ю"
    assert shown("▁") == "␣"
    assert shown(beams.BEGIN) == beams.BEGIN


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_read_and_written(tmp_path: Path, suffix: str) -> None:
    trace = tmp_path / "trace.json"
    trace.write_text("".join(json.dumps(tree) + "\n" for tree in TREES), encoding="utf-8")
    tree = BeamTree.read(trace, 2)
    assert tree == BeamTree.parse(TREES[1])
    path = tmp_path / f"b{suffix}"
    beams.draw_beams(tree, path)
    assert path.stat().st_size > 5000


def test_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps(TREES[0]) + '\n{"steps": 3}\nno JSON\n{"steps": [], "hypotheses": []}\n[]\n')
    with pytest.raises(KotyaError, match="the traces of 5 lines; there is no line 6"):
        BeamTree.read(trace, 6)
    for number in (2, 3, 5):
        with pytest.raises(KotyaError, match=f"trace.json:{number}: not a trace"):
            BeamTree.read(trace, number)
    with pytest.raises(KotyaError, match="nothing was searched"):
        BeamTree.read(trace, 4)
    long = dict(TREES[0], steps=TREES[0]["steps"][:1] * 100)
    with pytest.raises(KotyaError, match="over a metre and a half"):
        beams.draw_beams(BeamTree.parse(long), tmp_path / "b.png")
