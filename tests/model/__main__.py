"""Explore the protocol, then each broken variant of it, and tell the shortest way to break each."""

from __future__ import annotations

from tests.model.environment import Model
from tests.model.properties import PROPERTIES, RESIDUE
from tests.model.search import explore
from tests.model.telling import told
from tests.model.variants import RELIED_ON, RELIES_ON_LESS, SOUND, VARIANTS

SAID = PROPERTIES | RESIDUE


def tell(model: Model, title: str, until: str = "") -> int:
    found = explore(model, until)
    print(f"\n{title}: {found.states:,} states")
    for name in [until] if until else sorted(found.broken):
        print(f" {name} {'can happen' if name in RESIDUE else 'is broken'}: {SAID[name]}")
        print(told(model, found.broken[name]))
    return found.states


def main() -> None:
    print("THE PROTOCOL, every state that it can reach")
    states = sum(tell(Model(sound.scenario), sound.scenario.name) for sound in SOUND)
    print(f"\n{states:,} states in all")
    print("\n\nBROKEN VARIANTS, each as far as it takes")
    for variant in VARIANTS:
        tell(Model(variant.scenario, variant.rules), variant.name, until=variant.breaks[0])
    print("\n\nWHAT RECOVERY RELIES ON, and the protocol without it")
    for scenario in RELIED_ON:
        tell(Model(scenario), scenario.name, until="S1")
    tell(Model(RELIES_ON_LESS), RELIES_ON_LESS.name)


if __name__ == "__main__":
    main()
