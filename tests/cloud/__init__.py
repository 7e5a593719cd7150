"""The real process against a ClickHouse service that someone else runs: ``make cloud``. Opt-in, no part of the suite.

Address and password come from the environment; what is made there is a database of a random name, dropped at the end.
"""
