"""Every safeguard is proved by its absence: `make chaos` takes each away and names the figure that turns bad.

layers.py     what a guard can be removed from: a constraint, a fragment of a function or statement, a line of code
guards.py     the table: guard, what is removed, the drill, and the figure that turns bad, or what still holds
drills.py     small days under load, each clean while every guard is there
strain.py     the drills' own figures, from the phone network's log
"""
