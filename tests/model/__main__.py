"""Explore the protocol, then each broken variant of it, and tell the shortest way to break each.

RECORD=1 keeps the counts for docs/guarantees.md.
"""

from __future__ import annotations

from tests.model.environment import Model
from tests.model.properties import PROPERTIES, RESIDUE
from tests.model.search import Exploration, explore
from tests.model.telling import told
from tests.model.variants import RELIED_ON, SOUND, VARIANTS
from tests.runs import record

SAID = PROPERTIES | RESIDUE


def tell(model: Model, title: str, until: str = "") -> Exploration:
    found = explore(model, until)
    print(f"\n{title}: {found.states:,} states")
    for name in [until] if until else sorted(found.broken):
        print(f" {name} {'can happen' if name in RESIDUE else 'is broken'}: {SAID[name]}")
        print(told(model, found.broken[name]))
    return found


def main() -> None:
    print("THE PROTOCOL, every state that it can reach")
    sound = [tell(Model(each.scenario), each.scenario.name) for each in SOUND]
    states = sum(found.states for found in sound)
    print(f"\n{states:,} states in all")
    print("\n\nBROKEN VARIANTS, each as far as it takes")
    broken = [
        variant.breaks[0] in tell(Model(variant.scenario, variant.rules), variant.name, until=variant.breaks[0]).broken
        for variant in VARIANTS
    ]
    print("\n\nWHAT RECOVERY RELIES ON, and the protocol without it")
    for scenario in RELIED_ON:
        tell(Model(scenario), scenario.name, until="S1")
    record(
        "model",
        "the protocol, explored exhaustively, and its broken variants (`python -m tests.model`)",
        {
            "states": states,
            "broken properties": sum(name not in RESIDUE for found in sound for name in found.broken),
            "broken variants": len(broken),
            "of them that break their property": sum(broken),
        },
    )


if __name__ == "__main__":
    main()
