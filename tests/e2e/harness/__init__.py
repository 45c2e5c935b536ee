"""What the end-to-end stories stand on: a private world, origins that count, real clients, a proxy.

Only the standard library is used, so that the stories run wherever Python 3.11 does.
"""
