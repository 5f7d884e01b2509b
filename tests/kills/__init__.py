"""Real faults: processes killed, stopped and doubled, networks cut after every byte, a database that dies, a full disk.

After each of them the phone network's own log, never the ledger, says who was contacted.

proxy.py      a network that is cut after the n-th byte of a request or of an answer
judge.py      holds the network's log against the book and the ledger
paths.py      the rare paths that the faults are for: each must have been reached
line.py       a practice on a real ledger whose mails, texts and calls go through such a network
street.py     what a test does to a deployment of real Airflow processes: holds it in the middle, kills, brings it back
"""
