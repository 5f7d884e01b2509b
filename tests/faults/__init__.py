"""One fault at each named point of input and output, and the way back to normal, judged by the network's log.

histories.py  a practice's day, in which every point is reached, with one fault in it
test_failpoints.py  every point x crash, error, pause x channel
"""
