"""The processes of a history: the daemon and ClickHouse, with clocks that can be set and tasks that can be shown."""
