"""What tests of faults note of the rare paths that they are for is counted, and a fault that misses its path fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.kills.paths import PROPERTY, Path, Paths, counts


def test_a_path_that_was_not_reached_fails_its_test_and_is_counted_as_never_reached() -> None:
    noted: list[tuple[str, object]] = []
    paths = Paths(lambda key, value: noted.append((key, value)))
    paths.reached(Path.PLANNED_TWICE, 3)
    with pytest.raises(AssertionError, match="did not reach"):
        paths.reached(Path.TWO_SCHEDULERS, 0)
    assert noted == [(PROPERTY, [Path.PLANNED_TWICE.value, 3]), (PROPERTY, [Path.TWO_SCHEDULERS.value, 0])]


def test_paths_are_counted_over_all_tests_once_for_each_whatever_phases_report_it() -> None:
    properties = [(PROPERTY, [Path.RECORD_LOST.value, 3])]
    reports = [
        SimpleNamespace(when=when, location=("", 0, test), user_properties=properties)
        for test in ("test_a", "test_b")
        for when in ("call", "teardown")
    ]
    found = counts(reports)
    assert list(found) == [path.value for path in Path]
    assert {path: times for path, times in found.items() if times} == {Path.RECORD_LOST.value: 6}
