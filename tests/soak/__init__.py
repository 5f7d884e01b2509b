"""Seasons: days of a practice with faults, people and storms on a virtual clock, all from one seed, on the real SQL.

`make soak SEEDS=n` lets n seasons pass on both cores; `make soak SEED=k` is one of them again, event for event.

book.py        what the book says at each moment, and what is due by it; writer.py draws it: moves, cancellations,
               answers, imports under another id, storms of ten times the usual, in weeks in which clocks change
network.py     the simulator's phone network and relay in this process, reached by the product's real channels
deployment.py  tests/drill's Ringonce on it, as processes that die, hang, and run twice
faults.py      the kinds of faults and how often each comes; processes.py has our own, surroundings.py the others
history.py     one fault and the way back
people.py      the person who decides on what is held
season.py      the clock: which moments there are, what happens at each, and whether all flows again after a fault
judge.py       what was promised, by the network's own log and the book
report.py      the figures, the table, the trace around what was broken
machine.py     the ledger's operations in any order (Hypothesis), with invariants of its own
seeds.txt      the seeds that failed once

A *fault history* is one fault that struck, and the way back: it counts when something came across it (a crash at a
point that is not reached in its quarter of an hour is none), and it is over when the process has died or woken up, the
lies are told, the outage has ended. From then on cycles are counted until every reminder that is due and ready goes
again: a good cycle, no attempt past its deadline, nothing ready that does not go, nothing due by the book that the
ledger does not have. More than two cycles are a failure. What a rule of the gate or a person's hold keeps back is no
failure; the table says how often each was placed. A history that another fault strikes before its recovery is seen is
counted as entangled, and recovers from the last of them.

Where the time goes, by cycle: 60 % of it is the database's (the MERGE's temporary table, the staged book, the gate),
and the same whether anything is due or not. So the cycles are what is saved: one an hour, as an hour without a good one
is a gap, and more only when something comes due, was put off until then, is in doubt, goes wrong, or a person acts. The
catalogue's checks of preflight are asked once for a season, plans are kept, pure functions are remembered
(tests/drill/night.py), and the provider has no sockets. Groups are sent one contact after the other and runs at the
same time are interleaved at the failpoints, never by the threads' chance: so a seed is the same season each time.
"""
