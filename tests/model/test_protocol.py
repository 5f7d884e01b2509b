"""The protocol keeps its promises in every state that it can reach, and without any one of its rules it does not."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.integration.test_guards import ALLOWED
from tests.model.environment import Model
from tests.model.properties import RESIDUE, TABLE
from tests.model.rules import Rules
from tests.model.search import Exploration, explore
from tests.model.state import Scenario
from tests.model.telling import told
from tests.model.variants import ORDINARY, RELIED_ON, SOUND, VARIANTS, Sound, Variant


def ways(model: Model, found: Exploration) -> str:
    """How each property was broken, for the message of a test that did not expect it."""
    return "\n".join(f"{name}:\n{told(model, trace)}" for name, trace in sorted(found.broken.items()))


@pytest.mark.parametrize("sound", SOUND, ids=lambda sound: sound.scenario.name)
def test_the_protocol_keeps_every_property_in_every_state(sound: Sound) -> None:
    model = Model(sound.scenario)
    found = explore(model)
    assert set(found.broken) == sound.residue, ways(model, found)
    assert found.states >= sound.states
    assert found.kinds >= ORDINARY | sound.reaches
    assert found.kinds <= ORDINARY.union(*(each.reaches for each in SOUND)), "a step that no scenario is there for"


def test_the_model_knows_no_line_of_the_state_machine_that_the_ledger_has_not() -> None:
    assert TABLE - ALLOWED.keys() == set()


def test_each_thing_that_the_residue_can_do_has_a_scenario_that_does_it() -> None:
    assert frozenset().union(*(sound.residue for sound in SOUND)) == set(RESIDUE)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_variant_breaks_what_its_rule_is_for(variant: Variant) -> None:
    model = Model(variant.scenario, variant.rules)
    found = explore(model, until=variant.breaks[0])
    assert set(found.broken) - set(RESIDUE) == set(variant.breaks), ways(model, found)


def test_every_rule_has_a_variant_without_it() -> None:
    assert [variant.without for variant in VARIANTS] == [rule.name for rule in fields(Rules)]


@pytest.mark.parametrize("scenario", RELIED_ON, ids=lambda scenario: scenario.name)
def test_without_what_recovery_relies_on_a_key_is_contacted_twice(scenario: Scenario) -> None:
    found = explore(Model(scenario), until="S1")
    assert set(found.broken) - set(RESIDUE) == {"S1"}
