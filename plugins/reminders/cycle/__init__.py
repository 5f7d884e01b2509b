"""The use cases of one cycle, in the order in which they happen. Everything they need is passed in, `now` included."""
