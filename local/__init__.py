"""What runs the project on one machine: its own PostgreSQL, the sample book, and the processes of `make run`."""
