"""Draws the floors of the house from its imports: rooms, floors, circles and upward imports.

    python scripts/import_floors.py [--check] [SRC]

A room is a wing (a package inside ``aeflow``) or a module at its top. Its floor is the longest way of imports down from
it, counted in rooms. An import inside a function, or for types only, counts as any other: it only saves time. It is
upward where its target already reaches its source by other imports, and then it closes a circle. ``--check`` fails
where there is a circle, an upward import, or a floor above MAX_FLOORS.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import networkx

PACKAGE = "aeflow"
FACES = (PACKAGE, f"{PACKAGE}.__main__")  # they name what the house offers, and no room needs them
MAX_FLOORS = 12


def main() -> None:
    """Print the floors, lowest last, and what breaks the rules."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", nargs="?", type=Path, default=Path(__file__).parent.parent / "src")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    graph, late = imports(options.src)
    upward = [one for one in late if networkx.has_path(graph, one[1], one[0])]
    graph.add_edges_from(one[:2] for one in late)
    circles = [part for part in networkx.strongly_connected_components(graph) if len(part) > 1]
    graph.remove_edges_from(one[:2] for one in upward)
    floors = floors_of(graph)
    by_floor = defaultdict(list)
    for room, floor in floors.items():
        by_floor[floor].append(room)
    for floor in sorted(by_floor, reverse=True):
        print(f"{floor:2}  {'  '.join(sorted(by_floor[floor]))}")
    print(f"{len(floors)} rooms, {len(by_floor)} floors, {len(circles)} circles, {len(upward)} upward imports")
    for circle in circles:
        print(f"circle: {' <-> '.join(sorted(circle))}")
    for *_, source, target in upward:
        print(f"upward: {source} -> {target}")
    if options.check and (circles or upward or len(by_floor) > MAX_FLOORS):
        sys.exit(1)


def imports(src: Path) -> tuple[networkx.DiGraph, list[tuple[str, str, str, str]]]:
    """Return the rooms' imports at loading as a graph, and the others as (room, room, module, imported module)."""
    modules = {name_of(path, src): path for path in sorted((src / PACKAGE).rglob("*.py"))}
    loading: networkx.DiGraph = networkx.DiGraph()
    late: set[tuple[str, str, str, str]] = set()
    for name, path in modules.items():
        if name in FACES:
            continue
        loading.add_node(room_of(name))
        for target, when_loaded in targets(ast.parse(path.read_text(encoding="utf-8"))):
            found = next((one for one in (target, target.rpartition(".")[0]) if one in modules), None)
            if found is None or found in FACES or room_of(found) == room_of(name):
                continue
            if when_loaded:
                loading.add_edge(room_of(name), room_of(found))
            else:
                late.add((room_of(name), room_of(found), name, found))
    return loading, sorted(late)


def targets(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield the dotted names that a module imports from the package, and whether it does when it is loaded."""
    late = {
        inner
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.unparse(outer.test))
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node not in late
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    yield alias.name, node not in late


def floors_of(graph: networkx.DiGraph) -> dict[str, int]:
    """Return each room's floor, from 1 for those that import no other; the rooms of a circle share one."""
    parts = networkx.condensation(graph)
    floor: dict[int, int] = {}
    for part in reversed(list(networkx.topological_sort(parts))):
        floor[part] = 1 + max((floor[below] for below in parts.successors(part)), default=0)
    return {room: floor[part] for part, data in parts.nodes(data=True) for room in data["members"]}


def room_of(module: str) -> str:
    """Return the wing or top module that a dotted name lies in."""
    return ".".join(module.split(".")[1:2])


def name_of(path: Path, src: Path) -> str:
    """Return the dotted name of a module's file."""
    parts = path.relative_to(src).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


if __name__ == "__main__":
    main()
