"""Mutation testing: each clause of the guards, the statements and the policy is left out, and a test must notice.

`python -m tests.mutation sql` works on the ledger's definitions and on include/sql, `python -m tests.mutation python`
on the modules that decide. `found` has the verdicts, so that only what has changed is tried again. `survivors.toml`,
once they have been run to the end, says of every mutant that no test notices why that is right.
"""
