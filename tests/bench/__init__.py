"""How fast, as ratios measured in one run: `make bench`. Nothing here asserts a time; it is no part of `make test`."""
