"""The only package that runs SQL: the named statements, the migrations, the booking database and the ledger."""
