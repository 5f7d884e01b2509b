"""Every safeguard is proved by its absence: `make chaos` takes each away and names the figure that turns bad.

layers.py     what a guard can be removed from: a constraint, a fragment of a function or statement, a line of code
guards.py     the table: guard, what is removed, the drill, and the figure that turns bad, or what still holds
drills.py     the drills, each clean while every guard is there;  strain.py  their own figures, from the network's log
storm.py      the book, with its storm of ten times the usual volume, and the hours of the cycles
acts.py       what happens beside the cycles: the operator, the people called, the provider
"""
