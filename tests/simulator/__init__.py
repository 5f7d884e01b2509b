"""A phone network in one process, for tests and for `make run`: Twilio's 2010-04-01 Messages and Calls, and SMTP.

It keeps its own log of every phone that rang, every text and every email that arrived. That log, not the ledger, says
who was contacted. It listens on loopback only and lies on command, as a provider does. Start it with
`python -m tests.simulator --help`; tests use `tests.simulator.client.Simulator`.

    clock.py       the time that can be advanced, and what is due in it
    journal.py     the log of what reached a phone or a mailbox, and how many calls rang there at once
    resources.py   messages and calls as Twilio describes them
    network.py     what happens to a message or a call after it was accepted
    refusals.py    Twilio's error codes and the destinations that provoke them
    faults.py      the lies that a test has ordered
    callbacks.py   signed requests to the customer's URLs
    listing.py     filters and pages of lists
    api.py         the HTTP API;  connection.py  its broken answers;  mail.py  SMTP;  control.py  log, commands and page
    server.py      puts the parts together;  client.py  what a test holds
"""
