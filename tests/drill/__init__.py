"""The night of the 13 hours, re-enacted: `make replay`. Ringonce and the predecessor's design have the same night.

book.py         clients, one appointment each, and households that share a telephone
night.py        the schedule, on a virtual clock, and the run through it
ringonce.py     the real cycle and ledger;  predecessor.py  the two cron jobs and the queue
figures.py      what reached people, as figures, from the phone network's log
chart.py        the two nights, one under the other
"""
