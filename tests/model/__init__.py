"""The dispatch protocol as a model, explored to the last state: `python -m tests.model` tells what was found.

state.py         what there is to know at one moment, and what a scenario bounds
protocol.py      who of ours takes which step when;  rules.py  what it insists on
environment.py   time, the provider, the operator, crashes and restores
properties.py    what must hold
search.py        every state that can be reached, breadth first
variants.py      the scenarios, the protocol without each of its rules, and what recovery relies on
telling.py       a counterexample in words
tests/integration/test_found_by_model.py   what it led to in the ledger itself

What is bounded, in each scenario on its own: one or two reminders, at most 3 cycles, 3 runs of a dispatch task, two of
them at once, 2 crashes (a worker that is stopped for ever is as good as dead, and costs nothing), 1 answer other than
an acceptance, 1 hold of an operator, 1 cancellation and 1 restore, in the first tick. A worker may be stopped between
any two of its steps for any time, a callback may come at any time, again, or never, and the list may lag.

What is left out: gaps, caps, quiet hours and what the book says, which only refuse more; clocks that disagree; and that
a last check may know the holds of up to a second ago. A contact that the provider makes after the client has given up
is as one that its list shows late. What recovery takes from the list it takes in one step. That a transaction does what
it says is for the tests on a real PostgreSQL.
"""
