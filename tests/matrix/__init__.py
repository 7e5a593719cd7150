"""The real process against real ClickHouse servers of several versions, alone and as replicas: ``make matrix``.

Servers are pinned wheels of chdb and chdb-core in ``.matrix/``; a cluster also takes ZooKeeper, of Debian's packages.
"""
